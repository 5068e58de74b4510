-- The line for room at the provider: the sealed batches of an account that have none reserved, by priority, then first
-- come first served. A step of priority is worth a day, so that nobody waits for ever. While one of a model stands
-- there and finds no room, the lanes of that model are parked: they are packed when it has moved on, from what waits
-- then.
-- takes: _core (key, num)
-- takes: _steps (want)

local PRIORITY_MS = 86400000
local PARKED_MS = 300000 -- then a parked lane looks by itself: workers of 0.2.0 move the line and wake nobody

local function model_of(lane)
  return string.match(lane, '^[^/]+/([^/]+)')
end

local function line_up(batch, account)
  local b = redis.call('HMGET', key('batch', batch), 'sealed_at', 'priority')
  redis.call('ZADD', key('waiting', account), 'NX', num(b[1]) - num(b[2]) * PRIORITY_MS, batch)
end

local function leave_line(batch, account, model)
  if redis.call('ZREM', key('waiting', account), batch) == 0 then return end
  local parked = redis.call('ZRANGE', key('parked', account), 0, -1, 'WITHSCORES')
  for i = 1, #parked, 2 do
    local lane = parked[i]
    if model_of(lane) == model then
      redis.call('ZREM', key('parked', account), lane)
      redis.call('HDEL', key('lane', lane), 'ahead', 'ahead_priority', 'held_reason')
      want(key('lane', lane), account, 'pack ' .. lane, tonumber(parked[i + 1])) -- who was parked first is packed first
    end
  end
end

-- Whether a lane is parked, and has nothing to be packed for that is more urgent than what stands in line.
local function is_parked(lane_key, account, priority)
  local lane = redis.call('HMGET', lane_key, 'ahead', 'ahead_priority')
  return lane[1] and redis.call('ZSCORE', key('waiting', account), lane[1]) and priority <= num(lane[2])
end
