-- hasten: look now. Moves only a step that nobody holds; the holder of a leased one looks again before it lets go.
-- What waits in a lane that is hastened need not linger, also when the packer has it at the moment.
-- KEYS: prefix. ARGV: now, member, account
-- ok | gone
-- takes: _core (now, pass_when_full)
-- takes: _steps (due_key, record_of, want)
local member, account = unpack(ARGV, 2)
local step, id = string.match(member, '^(%a+) (.+)$')
if not redis.call('ZSCORE', due_key(account), member) then return { 'gone' } end
pass_when_full()
local record = record_of(step, id)
if step == 'pack' then redis.call('HSET', record, 'hastened_at', now) end
want(record, account, member, now)
return { 'ok' }
