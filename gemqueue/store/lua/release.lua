-- release: the holder puts a batch's step back for later, with what it learned. look_again makes it due at once. A
-- holder that has let go already, by this or by a transition that moved the step on, changes nothing.
-- KEYS: prefix. ARGV: now, member, account, fence, delay_ms, each (field, value)
-- field, value: to set in the record
-- ok | stale
-- takes: _core (account_of, key, now, num, pass_when_full, raise_v, stale)
-- takes: _groups (groups)
-- takes: _steps (due_key)
-- takes: _line (model_of)
-- takes: _quota (unreserve, wake)
local member, account, fence, delay_ms = unpack(ARGV, 2, 5)
local record = key('batch', string.match(member, ' (.+)$'))
if stale(record, fence) then return { 'stale' } end
if num(redis.call('HGET', record, 'lease_until')) == 0 then return { 'ok' } end
pass_when_full()
delay_ms = tonumber(delay_ms)
if redis.call('HDEL', record, 'look_again') == 1 then delay_ms = 0 end
local v = redis.call('HGET', record, 'v')
redis.call('HSET', record, 'lease_until', 0, unpack(ARGV, 6))
raise_v(record, v)
redis.call('ZADD', due_key(account), now + delay_ms, member)
local b = redis.call('HMGET', record, 'state', 'lane')
if b[1] == 'sealed' then unreserve(string.match(member, ' (.+)$'), b[2], 0) end
for field in groups(6, 2) do
  -- The file is gone, and so is its claim to room.
  if field == 'input_file' then wake(account_of(b[2]), model_of(b[2])) end
end
return { 'ok' }
