-- pack: move up to 500 segments of a lane into a batch; seal it when it is full or nothing is left. By priority, then by
-- weighted fair share between tenants (who has had least goes first), first come first served within one.
-- ARGV[2] lane, ARGV[3] fence, ARGV[4] batch id, ARGV[5] msgpack {prompts, raw_bytes, tokens, weights={tenant=w}}
-- ok <'packing'|'sealed'|'empty'> <prompts in the batch> <prompts left in the lane> | stale
local lane, batch, limit = ARGV[2], ARGV[4], cmsgpack.unpack(ARGV[5])
local lane_key, batch_key = key('lane', lane), key('batch', batch)
if stale(lane_key, ARGV[3]) then return { 'stale' } end
local state = redis.call('HGET', batch_key, 'state')
if state and state ~= 'packing' then
  redis.call('HDEL', lane_key, 'batch')
  return { 'ok', 'sealed', num(redis.call('HGET', batch_key, 'prompts')), num(redis.call('HGET', lane_key, 'prompts')) }
end

local later = key('later', lane)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, 500)) do
  redis.call('ZREM', later, id)
  local m = redis.call('HMGET', key('segmeta', id), 'tenant', 'priority', 'count', 'raw_bytes', 'tokens', 'state')
  if m[6] == 'live' then
    redis.call('ZADD', key('pending', lane, m[1]), pending_score(num(m[2]), now), id)
    redis.call('HSETNX', key('tenants', lane), m[1], 0)
    redis.call('HSETNX', lane_key, 'oldest', now)
    redis.call('HINCRBY', lane_key, 'segments', 1)
    redis.call('HINCRBY', lane_key, 'prompts', num(m[3]))
    redis.call('HINCRBY', lane_key, 'raw_bytes', num(m[4]))
    redis.call('HINCRBY', lane_key, 'tokens', num(m[5]))
  end
end

if not state then
  redis.call('HSET', batch_key, 'v', VERSION, 'state', 'packing', 'lane', lane, 'fence', 0, 'created_at', now)
  redis.call('HSET', lane_key, 'batch', batch)
end
local has = redis.call('HMGET', batch_key, 'prompts', 'raw_bytes', 'tokens', 'segments')
local prompts, raw_bytes, tokens, segments = num(has[1]), num(has[2]), num(has[3]), num(has[4])
local ceiling = num(redis.call('HGET', lane_key, 'ceiling'))
if ceiling > 0 then limit.prompts = math.min(limit.prompts, ceiling) end

local tenants, flat = {}, redis.call('HGETALL', key('tenants', lane))
for i = 1, #flat, 2 do
  tenants[#tenants + 1] = { name = flat[i], passed = tonumber(flat[i + 1]), queue = {}, at = 1 }
end
local function head(tenant)
  if tenant.at > #tenant.queue then
    tenant.queue = redis.call('ZRANGE', key('pending', lane, tenant.name), 0, 99, 'WITHSCORES')
    tenant.at = 1
  end
  return tenant.queue[tenant.at], tonumber(tenant.queue[tenant.at + 1])
end
local function next_tenant()
  local best, best_priority
  for _, tenant in ipairs(tenants) do
    local id, score = head(tenant)
    if id then
      local priority = math.floor(score / 4398046511104)
      if not best or priority < best_priority or (priority == best_priority and tenant.passed < best.passed) then
        best, best_priority = tenant, priority
      end
    end
  end
  return best
end

local sealed, took, left_lane = false, {}, { 0, 0, 0, 0 }
for _ = 1, 500 do
  local tenant = next_tenant()
  if not tenant then
    sealed = true
    break
  end
  local id = head(tenant)
  local m = redis.call('HMGET', key('segmeta', id), 'count', 'raw_bytes', 'tokens', 'state')
  local n, b, k = num(m[1]), num(m[2]), num(m[3])
  local live = m[4] == 'live'
  if live and prompts > 0 and (prompts + n > limit.prompts or raw_bytes + b > limit.raw_bytes or tokens + k > limit.tokens) then
    sealed = true
    break
  end
  redis.call('ZREM', key('pending', lane, tenant.name), id)
  tenant.at = tenant.at + 2
  left_lane = { left_lane[1] + 1, left_lane[2] + n, left_lane[3] + b, left_lane[4] + k }
  if live then
    tenant.passed = tenant.passed + n / (limit.weights[tenant.name] or 1)
    took[#took + 1] = id
    redis.call('HSET', key('segmeta', id), 'batch', batch)
    prompts, raw_bytes, tokens, segments = prompts + n, raw_bytes + b, tokens + k, segments + 1
  end
end
if #took > 0 then redis.call('RPUSH', key('manifest', batch), unpack(took)) end
for i, field in ipairs({ 'segments', 'prompts', 'raw_bytes', 'tokens' }) do
  redis.call('HINCRBY', lane_key, field, -left_lane[i])
end
redis.call('HSET', batch_key, 'prompts', prompts, 'raw_bytes', raw_bytes, 'tokens', tokens, 'segments', segments)

redis.call('HDEL', lane_key, 'oldest')
for _, tenant in ipairs(tenants) do
  local id = head(tenant)
  if id then
    redis.call('HSET', key('tenants', lane), tenant.name, string.format('%.3f', tenant.passed))
    local at = num(redis.call('HGET', key('segmeta', id), 'created_at'))
    local oldest = num(redis.call('HGET', lane_key, 'oldest'))
    if oldest == 0 or at < oldest then redis.call('HSET', lane_key, 'oldest', at) end
  else
    redis.call('HDEL', key('tenants', lane), tenant.name)
  end
end

local left = num(redis.call('HGET', lane_key, 'prompts'))
if not sealed then return { 'ok', 'packing', prompts, left } end
redis.call('HDEL', lane_key, 'batch')
if segments == 0 then
  redis.call('UNLINK', batch_key)
  return { 'ok', 'empty', 0, left }
end
seal(batch, lane, {})
return { 'ok', 'sealed', prompts, left }
