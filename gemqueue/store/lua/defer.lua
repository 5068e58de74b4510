-- defer: the rescue step has looked: each of these segments is to be looked at again at its time, or never (0). The
-- step is put back for the earliest of all, but not before a time; with nothing to watch over it leaves the due index.
-- ARGV[2] lane, ARGV[3] fence, ARGV[4] not within ms, or -1: the holder goes on, then for each: ARGV[i] segment, time
-- ms or 0
-- ok | stale
-- takes: _core (account_of, key, now, pass_when_full, stale)
-- takes: _steps (due_key)
local lane, record, index = ARGV[2], key('rescue', ARGV[2]), key('deadlines', ARGV[2])
if stale(record, ARGV[3]) then return { 'stale' } end
pass_when_full()
for i = 5, #ARGV, 2 do
  if tonumber(ARGV[i + 1]) == 0 then redis.call('ZREM', index, ARGV[i])
  else redis.call('ZADD', index, 'XX', ARGV[i + 1], ARGV[i]) end
end
local not_within_ms = tonumber(ARGV[4])
if not_within_ms < 0 then return { 'ok' } end
redis.call('HSET', record, 'lease_until', 0)
redis.call('HDEL', record, 'look_again', 'crashes')
local due, member = due_key(account_of(lane)), 'rescue ' .. lane
local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
if first[2] then redis.call('ZADD', due, math.max(tonumber(first[2]), now + not_within_ms), member)
else redis.call('ZREM', due, member) end
return { 'ok' }
