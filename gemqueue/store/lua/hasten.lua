-- hasten: look now. Moves only a step that nobody holds; the holder of a leased one looks again before it lets go.
-- What waits in a lane that is hastened need not linger, also when the packer has it at the moment.
-- ARGV[2] step member, ARGV[3] account
-- ok | gone
-- takes: _core (now, pass_when_full)
-- takes: _steps (due_key, record_of, want)
local step, id = string.match(ARGV[2], '^(%a+) (.+)$')
if not redis.call('ZSCORE', due_key(ARGV[3]), ARGV[2]) then return { 'gone' } end
pass_when_full()
local record = record_of(step, id)
if step == 'pack' then redis.call('HSET', record, 'hastened_at', now) end
want(record, ARGV[3], ARGV[2], now)
return { 'ok' }
