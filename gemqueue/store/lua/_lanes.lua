-- Segments wait in lanes to be packed.
-- takes: _core (SEALED, T, VERSION, account_of, is_sealed, key, now, num, raise_v)
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

-- What of a tenant waits in a lane, those who are passed over included: prompts, bytes, tokens and segments.
local SIZES = { 'prompts', 'raw_bytes', 'tokens', 'segments' }
local SUMS_KEEP_S = 1209600 -- workers of 0.2.0 pack without a word of it; a sum that is gone counts from zero

local function sums_of(lane, tenant)
  local found = redis.call('HGET', key('sums', lane), tenant)
  local n, b, k, s = string.match(found or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
  return { tonumber(n), tonumber(b), tonumber(k), tonumber(s) }
end

-- After its segments have come or gone. A first one counts from zero, whatever workers of 0.2.0 have left there.
local function sum_up(lane, tenant, sizes, sign)
  local sums, has, waiting = key('sums', lane), sums_of(lane, tenant), redis.call('ZCARD', key('pending', lane, tenant))
  if waiting == 0 then
    redis.call('HDEL', sums, tenant)
    return
  end
  for i = 1, 4 do has[i] = math.max(0, (sign > 0 and waiting == sizes[4] and 0 or has[i]) + sign * sizes[i]) end
  redis.call('HSET', sums, tenant, string.format('%d %d %d %d', unpack(has)))
  redis.call('EXPIRE', sums, SUMS_KEEP_S)
end

-- A lane counts what may be packed; it counts from zero again when that is nothing.
local function count_lane(lane, sizes, sign)
  local lane_key, left = key('lane', lane), sign > 0 or redis.call('EXISTS', key('tenants', lane)) == 1
  for i, field in ipairs(SIZES) do
    if left then redis.call('HINCRBY', lane_key, field, sign * sizes[i]) else redis.call('HSET', lane_key, field, 0) end
  end
  if not left then redis.call('HDEL', lane_key, 'oldest') end
end

-- A tenant that is over a limit of its own does not hold up the others: it leaves those who are served, and comes back
-- level with them, so that nobody saves up turns.
local function pass_over(lane, tenant, until_ms, why)
  local since = string.match(redis.call('HGET', key('over', lane), tenant) or '', '^%d+ (%d+)') or now
  redis.call('HSET', key('over', lane), tenant, string.format('%d %d ', until_ms, since) .. why)
  redis.call('ZREM', key('tenants', lane), tenant)
  count_lane(lane, sums_of(lane, tenant), -1)
end

local function readmit(lane, tenant)
  redis.call('HDEL', key('over', lane), tenant)
  if redis.call('EXISTS', key('pending', lane, tenant)) == 0 then return end
  place(lane, tenant)
  redis.call('HSETNX', key('lane', lane), 'oldest', now)
  count_lane(lane, sums_of(lane, tenant), 1)
end

-- A segment leaves a lane otherwise than by being packed; whether it was pending there.
local function unpend(lane, tenant, id, sizes)
  if redis.call('ZREM', key('pending', lane, tenant), id) == 0 then return false end
  sum_up(lane, tenant, sizes, -1)
  if redis.call('HEXISTS', key('over', lane), tenant) == 1 then
    if redis.call('EXISTS', key('pending', lane, tenant)) == 0 then redis.call('HDEL', key('over', lane), tenant) end
  else
    place(lane, tenant)
    count_lane(lane, sizes, -1)
  end
  return true
end

local PATIENCE_MS = 86400000 -- by when prompts without a deadline are taken to be wanted: what the provider aims at

-- A segment is ready to be packed: within its priority, who is wanted first goes first. The lane's counters are what is
-- pending.
local function pend(lane, id, meta)
  local lane_key, wanted_at = key('lane', lane), num(redis.call('HGET', key('segmeta', id), 'deadline_at'))
  if wanted_at == 0 then wanted_at = now + PATIENCE_MS end
  redis.call('ZADD', key('pending', lane, meta.tenant), scored(-meta.priority, wanted_at), id)
  local sizes = { meta.count, meta.raw_bytes, meta.tokens, 1 }
  sum_up(lane, meta.tenant, sizes, 1)
  if redis.call('HEXISTS', key('over', lane), meta.tenant) == 1 then return end
  place(lane, meta.tenant)
  redis.call('HSETNX', lane_key, 'oldest', now)
  count_lane(lane, sizes, 1)
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
  if is_sealed(id) then raise_v(lane_key, SEALED) end
  if ready_at > now then
    redis.call('ZADD', key('later', lane), ready_at, id)
    want(lane_key, account, 'pack ' .. lane, ready_at)
    return
  end
  pend(lane, id, meta)
  local at = now
  if not lane_is_full(lane_key, full) then at = lingered(lane_key, full) end
  local over = redis.call('HEXISTS', key('over', lane), meta.tenant) == 1
  if over or is_parked(lane_key, account, num(meta.priority)) then at = now + PARKED_MS end
  want(lane_key, account, 'pack ' .. lane, at)
end
