-- release: the holder puts a batch's step back for later, with what it learned. look_again makes it due at once. A
-- holder that has let go already, by this or by a transition that moved the step on, changes nothing.
-- ARGV[2] step member, ARGV[3] account, ARGV[4] fence, ARGV[5] delay ms, ARGV[6...] fields to set
-- ok | stale
-- takes: _core (account_of, key, now, num, pass_when_full, stale)
-- takes: _steps (due_key)
-- takes: _quota (model_of, unreserve, wake)
local member = ARGV[2]
local record = key('batch', string.match(member, ' (.+)$'))
if stale(record, ARGV[4]) then return { 'stale' } end
if num(redis.call('HGET', record, 'lease_until')) == 0 then return { 'ok' } end
pass_when_full()
local delay_ms = tonumber(ARGV[5])
if redis.call('HDEL', record, 'look_again') == 1 then delay_ms = 0 end
redis.call('HSET', record, 'lease_until', 0, unpack(ARGV, 6))
redis.call('ZADD', due_key(ARGV[3]), now + delay_ms, member)
local b = redis.call('HMGET', record, 'state', 'lane')
if b[1] == 'sealed' then unreserve(string.match(member, ' (.+)$'), b[2], 0) end
for i = 6, #ARGV, 2 do
  -- The file is gone, and so is its claim to room.
  if ARGV[i] == 'input_file' then wake(account_of(b[2]), model_of(b[2])) end
end
return { 'ok' }
