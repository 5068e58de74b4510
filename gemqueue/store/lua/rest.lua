-- rest: the packer lets go of a lane; it is due again when it is full, when its oldest segment has lingered or was
-- there when the lane was hastened, or when a delayed segment becomes ready; a lane with nothing in it leaves the due
-- index. A lane is parked behind a batch that stands in line for room: it is due when that has left the line, and at
-- once if it has left already.
-- KEYS: prefix. ARGV: now, lane, fence, full, not_within_ms, parked
-- full: msgpack {prompts, raw_bytes, tokens, linger_ms}. parked: '' or msgpack {ahead=batch, priority, reason}
-- ok | stale
-- takes: _core (account_of, key, now, num, pass_when_full, stale)
-- takes: _steps (due_key)
-- takes: _line (PARKED_MS)
-- takes: _lanes (lane_is_full, lingered)
local lane, fence, full, not_within_ms, parked = unpack(ARGV, 2)
full = cmsgpack.unpack(full)
local account = account_of(lane)
local lane_key, index, member = key('lane', lane), due_key(account), 'pack ' .. lane
if stale(lane_key, fence) then return { 'stale' } end
pass_when_full()
redis.call('HSET', lane_key, 'lease_until', 0)
redis.call('HDEL', lane_key, 'crashes')
if parked ~= '' then
  local p, at = cmsgpack.unpack(parked), now
  if redis.call('ZSCORE', key('waiting', account), p.ahead) then
    at = now + PARKED_MS
    redis.call('HSET', lane_key, 'ahead', p.ahead, 'ahead_priority', p.priority, 'held_reason', p.reason)
    redis.call('ZADD', key('parked', account), 'NX', now, lane)
  end
  redis.call('ZADD', index, at, member)
  return { 'ok' }
end
if redis.call('ZREM', key('parked', account), lane) == 1 then
  redis.call('HDEL', lane_key, 'ahead', 'ahead_priority', 'held_reason')
end
local at
if num(redis.call('HGET', lane_key, 'prompts')) > 0 or redis.call('EXISTS', key('tenants', lane)) == 1 then
  at = lingered(lane_key, full)
  if lane_is_full(lane_key, full) then at = now end
end
local later = redis.call('ZRANGE', key('later', lane), 0, 0, 'WITHSCORES')
if later[2] then at = math.min(at or tonumber(later[2]), tonumber(later[2])) end
redis.call('HDEL', lane_key, 'look_again')
for _, over in ipairs(redis.call('HVALS', key('over', lane))) do
  local until_ms = tonumber(string.match(over, '^%d+'))
  at = math.min(at or until_ms, until_ms)
end
if redis.call('HGET', lane_key, 'batch') then at = now end
if at then
  redis.call('ZADD', index, math.max(at, now + tonumber(not_within_ms)), member)
else
  redis.call('ZREM', index, member)
end
return { 'ok' }
