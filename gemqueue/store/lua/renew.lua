-- renew: the holder is alive. Same fence, a new lease. A holder that has let go has nothing to renew: its step may have
-- moved on, and must not come back.
-- KEYS: prefix. ARGV: now, member, account, fence, lease_ms
-- ok | stale
-- takes: _core (now, num, pass_when_full, stale)
-- takes: _steps (due_key, record_of)
local member, account, fence, lease_ms = unpack(ARGV, 2)
local step, id = string.match(member, '^(%a+) (.+)$')
local record = record_of(step, id)
if stale(record, fence) then return { 'stale' } end
if num(redis.call('HGET', record, 'lease_until')) == 0 then return { 'ok' } end
pass_when_full()
redis.call('HSET', record, 'lease_until', now + lease_ms)
redis.call('ZADD', due_key(account), now + lease_ms, member)
return { 'ok' }
