-- pack: move up to 500 segments of a lane into a batch; seal it when it is full or nothing is left. By priority, then
-- by weighted fair share between tenants (who has had least goes first), first come first served within one. Who is
-- over a limit of its own is passed over, and the others go on.
-- The segments of a pool's lane go into a batch of the account that packs: from then on it is that account's alone.
-- KEYS: prefix. ARGV: now, lane, fence, batch, limits
-- limits: msgpack {prompts, raw_bytes, tokens, review_ms, weights={tenant=w}, own = the batch's lane, where the packed
-- lane is a pool's}
-- ok <'packing'|'sealed'|'empty'> <prompts in the batch> <prompts left that may be packed> | stale
-- takes: _core (T, VERSION, account_of, has_word, key, now, num, pass_when_full, raise_v, stale)
-- takes: _lanes (CLASS, SIZES, class_of, pass_over, pend, place, readmit, sum_up)
-- takes: _batches (seal)
-- takes: _tenants (enter_job, note_packed, share, why_over)
local lane, fence, batch, limits = unpack(ARGV, 2)
local lane_key, batch_key, limit = key('lane', lane), key('batch', batch), cmsgpack.unpack(limits)
if stale(lane_key, fence) then return { 'stale' } end
pass_when_full()
local state = redis.call('HGET', batch_key, 'state')
if state and state ~= 'packing' then
  redis.call('HDEL', lane_key, 'batch')
  return { 'ok', 'sealed', num(redis.call('HGET', batch_key, 'prompts')), num(redis.call('HGET', lane_key, 'prompts')) }
end

local later = key('later', lane)
local ready = redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, 250)
for _, id in ipairs(ready) do
  redis.call('ZREM', later, id)
  local m = redis.pcall('HMGET', key('segmeta', id), 'tenant', 'priority', 'count', 'raw_bytes', 'tokens', 'state',
    'postponed')
  local review = not m[7] and redis.call('ZSCORE', key('deadlines', lane), id)
  if review and tonumber(review) <= now then
    -- The rescue step has not reviewed it: it gets one more chance, and no more.
    redis.call('HSET', key('segmeta', id), 'postponed', 1)
    redis.call('ZADD', later, now + limit.review_ms, id)
  elseif m[6] == 'live' then
    pend(lane, id,
      { tenant = m[1], priority = num(m[2]), count = num(m[3]), raw_bytes = num(m[4]), tokens = num(m[5]) })
  end
end

local overs = redis.call('HGETALL', key('over', lane))
for i = 1, #overs, 2 do
  if tonumber(string.match(overs[i + 1], '^%d+')) <= now then readmit(lane, overs[i]) end
end

local own = limit.own or lane
if not state then
  redis.call('HSET', batch_key, 'v', VERSION, 'state', 'packing', 'fence', 0, 'created_at', now)
  redis.call('HSET', lane_key, 'batch', batch)
end
raise_v(batch_key, redis.call('HGET', lane_key, 'v'))
redis.call('HSET', batch_key, 'lane', own) -- whoever goes on with a batch that another account began has it
if own ~= lane then
  redis.call('HSET', batch_key, 'pool', account_of(lane))
  redis.call('ZADD', key('pool', account_of(lane)), now, account_of(own))
  redis.call('SADD', T .. ':lanes', own)
  redis.call('HSETNX', key('lane', own), 'v', VERSION)
  redis.call('HDEL', lane_key, 'held_reason')
end
local has = redis.call('HMGET', batch_key, 'prompts', 'raw_bytes', 'tokens', 'segments', 'priority')
local prompts, raw_bytes, tokens, segments = num(has[1]), num(has[2]), num(has[3]), num(has[4])
local priority = tonumber(has[5] or nil)
local ceiling = num(redis.call('HGET', key('lane', own), 'ceiling'))
if ceiling > 0 then limit.prompts = math.min(limit.prompts, ceiling) end

-- The tenant that is served, up to the score of the one behind it, and the segments that it has first. What it has
-- passed is summed up apart from its class: beside a large one, small parts of a prompt would be rounded away.
local tenants = key('tenants', lane)
local tenant, class, passed, rival, queue, at
-- What of this tenant has left the lane; how much each has in; whose jobs are limited.
local gone, taken, limited = {}, {}, {}

local scope, rules = account_of(lane), {}
local ruled, makes_job = redis.call('EXISTS', key('tenant', scope)) == 1, string.match(lane, '/batch$')
local function rule_of(name)
  if not rules[name] then
    local r = ruled and redis.call('HMGET', key('tenant', scope, name), 'weight', 'jobs_max', 'per_min_max') or {}
    rules[name] = { weight = tonumber(r[1] or nil) or limit.weights[name] or 1, jobs_max = makes_job and num(r[2]) or 0,
      per_min_max = num(r[3]) }
  end
  return rules[name]
end

local function first()
  if not tenant then
    local two = redis.call('ZRANGE', tenants, 0, 1, 'WITHSCORES')
    if not two[1] then return nil end
    tenant, class, passed, rival = two[1], class_of(two[2]), two[2] % CLASS, tonumber(two[4])
    queue, at, gone = redis.call('ZRANGE', key('pending', lane, tenant), 0, 99, 'WITHSCORES'), 1, { 0, 0, 0, 0 }
  end
  return queue[at]
end

local function step_down()
  place(lane, tenant, passed)
  if gone[4] > 0 then sum_up(lane, tenant, gone, -1) end
  tenant = nil
end

local function served(amount)
  redis.call('ZREM', key('pending', lane, tenant), queue[at])
  passed, at = passed + amount, at + 2
  local behind = rival and class * CLASS + passed > rival
  if not queue[at] or class_of(queue[at + 1]) ~= class or behind then step_down() end
end

local sealed, took, left_lane = false, {}, { 0, 0, 0, 0 }

local function take(id, sizes, rule, live)
  for i, size in ipairs(sizes) do left_lane[i], gone[i] = left_lane[i] + size, gone[i] + size end
  if live then
    took[#took + 1], taken[tenant] = id, { prompts = (taken[tenant] or { prompts = 0 }).prompts + sizes[1], last = id }
    if rule.jobs_max > 0 and not limited[tenant] then
      limited[tenant] = true
      enter_job(batch, scope, tenant)
    end
    redis.call('HSET', key('segmeta', id), 'batch', batch)
    priority = math.max(priority or -class, -class)
  end
  served(live and sizes[1] / rule.weight or 0)
end

local function pass(until_ms, why)
  local name = tenant
  step_down()
  pass_over(lane, name, until_ms, why)
end

for _ = 1, 500 - #ready do
  local id = first()
  if not id then
    sealed = #ready < 250
    break
  end
  local m = redis.pcall('HMGET', key('segmeta', id), 'count', 'raw_bytes', 'tokens', 'state')
  local n, b, k = num(m[1]), num(m[2]), num(m[3])
  local live, rule, why, until_ms = m[4] == 'live', rule_of(tenant), nil, nil
  if live and prompts > 0
    and (prompts + n > limit.prompts or raw_bytes + b > limit.raw_bytes or tokens + k > limit.tokens) then
    sealed = true
    break
  end
  if live then
    why, until_ms = why_over(scope, tenant, rule, batch, n, taken[tenant] and taken[tenant].prompts or 0)
  end
  if why then
    pass(until_ms, why)
  else
    if live then prompts, raw_bytes, tokens, segments = prompts + n, raw_bytes + b, tokens + k, segments + 1 end
    take(id, { n, b, k, 1 }, rule, live)
  end
end
if tenant then step_down() end
if #took > 0 then redis.call('RPUSH', key('manifest', batch), unpack(took)) end
local names = redis.call('HGET', batch_key, 'limited') or ''
for name, has in pairs(taken) do
  share(batch, name, has.prompts)
  local rule = rule_of(name)
  if rule.per_min_max > 0 then note_packed(scope, name, has.last, has.prompts, rule.per_min_max) end
  if limited[name] and not has_word(names, name) then names = names .. ' ' .. name end
end
redis.call('HSET', batch_key, 'prompts', prompts, 'raw_bytes', raw_bytes, 'tokens', tokens, 'segments', segments,
  'priority', priority or 0, 'limited', names)

-- What is left: the counters, and since when its oldest waits, as far as those show who are next.
local waiting = redis.call('ZRANGE', tenants, 0, 99)
redis.call('HDEL', lane_key, 'oldest')
for i, field in ipairs(SIZES) do
  if waiting[1] then redis.call('HINCRBY', lane_key, field, -left_lane[i])
  else redis.call('HSET', lane_key, field, 0) end
end
local oldest
for _, name in ipairs(waiting) do
  local id = redis.call('ZRANGE', key('pending', lane, name), 0, 0)[1]
  local created_at = num(redis.pcall('HGET', key('segmeta', id), 'created_at'))
  oldest = math.min(oldest or created_at, created_at)
end
if oldest then redis.call('HSET', lane_key, 'oldest', oldest) end

local left = num(redis.call('HGET', lane_key, 'prompts'))
if not sealed then return { 'ok', 'packing', prompts, left } end
redis.call('HDEL', lane_key, 'batch')
if segments == 0 then
  redis.call('UNLINK', batch_key)
  return { 'ok', 'empty', 0, left }
end
seal(batch, own, {})
return { 'ok', 'sealed', prompts, left }
