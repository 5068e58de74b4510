-- defer: the rescue step has reviewed: each of these segments is to be reviewed again at its time, or never (0). The
-- step is put back for the earliest of all, but not before a time; with nothing to watch over it leaves the due index.
-- KEYS: prefix. ARGV: now, lane, fence, not_within_ms, each (segment, at_ms)
-- not_within_ms: or -1: the holder goes on. at_ms: or 0 for never
-- ok | stale
-- takes: _core (account_of, key, now, pass_when_full, stale)
-- takes: _groups (groups)
-- takes: _steps (due_key)
local lane, fence, not_within_ms = unpack(ARGV, 2, 4)
local record, index = key('rescue', lane), key('deadlines', lane)
if stale(record, fence) then return { 'stale' } end
pass_when_full()
for segment, at_ms in groups(5, 2) do
  if tonumber(at_ms) == 0 then redis.call('ZREM', index, segment)
  else redis.call('ZADD', index, 'XX', at_ms, segment) end
end
not_within_ms = tonumber(not_within_ms)
if not_within_ms < 0 then return { 'ok' } end
redis.call('HSET', record, 'lease_until', 0)
redis.call('HDEL', record, 'look_again', 'crashes')
local due, member = due_key(account_of(lane)), 'rescue ' .. lane
local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
if first[2] then redis.call('ZADD', due, math.max(tonumber(first[2]), now + not_within_ms), member)
else redis.call('ZREM', due, member) end
return { 'ok' }
