-- Segments wait in lanes to be packed.
-- takes: _core (T, VERSION, account_of, key, now, num)
-- takes: _steps (want)
-- takes: _line (PARKED_MS, is_parked)

-- Scores hold a priority and, below it, a time in ms (until 2109) or a number of prompts: highest priority first.
local CLASS = 4398046511104

local function scored(class, rest)
  return string.format('%.3f', class * CLASS + rest)
end

local function class_of(score)
  return math.floor(tonumber(score) / CLASS)
end

-- A tenant's place among those that have something pending: by the priority of what it has first, then by how much it
-- has passed (prompts over weight). Whoever joins a priority starts at the least of those present, so that nobody saves
-- up turns and nobody waits until a newcomer has caught up.
local function place(lane, tenant, passed)
  local tenants, first = key('tenants', lane), redis.call('ZRANGE', key('pending', lane, tenant), 0, 0, 'WITHSCORES')
  if not first[1] then
    redis.call('ZREM', tenants, tenant)
    return
  end
  local class, old = class_of(first[2]), redis.call('ZSCORE', tenants, tenant)
  local stays = old and class_of(old) == class
  if stays and not passed then return end
  passed = passed or (old and tonumber(old) % CLASS) or 0
  if not stays then
    local low, high = string.format('%.0f', class * CLASS), string.format('(%.0f', (class + 1) * CLASS)
    local least = redis.call('ZRANGEBYSCORE', tenants, low, high, 'WITHSCORES', 'LIMIT', 0, 1)
    if least[1] then passed = math.max(passed, tonumber(least[2]) - class * CLASS) end
  end
  redis.call('ZADD', tenants, scored(class, passed), tenant)
end

local PATIENCE_MS = 86400000 -- by when prompts without a deadline are taken to be wanted: what the provider aims at

-- A segment is ready to be packed: within its priority, who is wanted first goes first. The lane's counters are what is
-- pending.
local function pend(lane, id, meta)
  local lane_key, wanted_at = key('lane', lane), num(redis.call('HGET', key('segmeta', id), 'deadline_at'))
  if wanted_at == 0 then wanted_at = now + PATIENCE_MS end
  redis.call('ZADD', key('pending', lane, meta.tenant), scored(-meta.priority, wanted_at), id)
  place(lane, meta.tenant)
  redis.call('HSETNX', lane_key, 'oldest', now)
  redis.call('HINCRBY', lane_key, 'segments', 1)
  redis.call('HINCRBY', lane_key, 'prompts', meta.count)
  redis.call('HINCRBY', lane_key, 'raw_bytes', meta.raw_bytes)
  redis.call('HINCRBY', lane_key, 'tokens', meta.tokens)
end

local function lane_is_full(lane_key, full)
  local lane = redis.call('HMGET', lane_key, 'prompts', 'raw_bytes', 'tokens', 'ceiling')
  local prompts_max = full.prompts
  if num(lane[4]) > 0 then prompts_max = math.min(prompts_max, num(lane[4])) end
  return num(lane[1]) >= prompts_max or num(lane[2]) >= full.raw_bytes or num(lane[3]) >= full.tokens
end

-- When a lane that is not full is due: when its oldest segment has lingered, or at once if it was hastened since.
local function lingered(lane_key, full)
  local lane = redis.call('HMGET', lane_key, 'oldest', 'hastened_at')
  if num(lane[1]) <= num(lane[2]) then return now end
  return num(lane[1]) + full.linger_ms
end

-- A segment waits to be packed: now, or from ready_at on.
local function wait(lane, id, meta, ready_at, full)
  local lane_key, account = key('lane', lane), account_of(lane)
  redis.call('SADD', T .. ':lanes', lane)
  redis.call('HSETNX', lane_key, 'v', VERSION)
  if ready_at > now then
    redis.call('ZADD', key('later', lane), ready_at, id)
    want(lane_key, account, 'pack ' .. lane, ready_at)
    return
  end
  pend(lane, id, meta)
  local at = now
  if not lane_is_full(lane_key, full) then at = lingered(lane_key, full) end
  if is_parked(lane_key, account, num(meta.priority)) then at = now + PARKED_MS end
  want(lane_key, account, 'pack ' .. lane, at)
end
