-- Tenants' limits: jobs in flight, and prompts a minute. `tenant:<account>:<name>` has those of a tenant.
-- takes: _core (T, account_of, key, now)
-- takes: _steps (want)
-- takes: _lanes (readmit)
-- takes: _line (PARKED_MS)

local MINUTE_MS = 60000
local SHARES_KEEP_S = 1209600 -- no job lives so long; workers of 0.2.0 leave these keys behind
local IN_FLIGHT = { packing = true, sealed = true, submitting = true, submitted = true }

-- How many prompts of each tenant a batch has.
local function share(batch, tenant, prompts)
  redis.call('HINCRBY', key('shares', batch), tenant, prompts)
  redis.call('EXPIRE', key('shares', batch), SHARES_KEEP_S)
end

-- A batch has prompts of a tenant whose jobs are limited, from when it is packed until its job has ended.
local function enter_job(batch, scope, tenant)
  redis.call('SADD', key('jobs', scope, tenant), batch)
  redis.call('EXPIRE', key('jobs', scope, tenant), SHARES_KEEP_S)
end

-- How many there are; asked at the limit alone, so that what has ended unnoticed is found then.
local function jobs_in_flight(scope, tenant, jobs_max)
  local jobs = key('jobs', scope, tenant)
  if redis.call('SCARD', jobs) < jobs_max then return redis.call('SCARD', jobs) end
  for _, id in ipairs(redis.call('SMEMBERS', jobs)) do
    if not IN_FLIGHT[redis.call('HGET', key('batch', id), 'state') or ''] then redis.call('SREM', jobs, id) end
  end
  return redis.call('SCARD', jobs)
end

-- Prompts of a tenant that were packed within the last minute, and when the first of them no longer count. What was
-- packed together stands as one entry; one that is more than the limit counts for as many minutes as it fills.
local function packed_of_late(scope, tenant)
  local rate, n = key('rate', scope, tenant), 0
  redis.call('ZREMRANGEBYSCORE', rate, '-inf', now)
  local entries = redis.call('ZRANGE', rate, 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do n = n + tonumber(string.match(entries[i], '(%d+)$')) end
  return n, tonumber(entries[2] or now)
end

local function note_packed(scope, tenant, segment, prompts, per_min_max)
  local rate, until_ms = key('rate', scope, tenant), now + MINUTE_MS * math.max(1, prompts / per_min_max)
  redis.call('ZADD', rate, math.ceil(until_ms), segment .. ' ' .. string.format('%d', prompts))
  redis.call('PEXPIRE', rate, math.ceil(2 * (until_ms - now)))
end

-- Why a tenant is passed over, and until when; nil where nothing is in its way. `of_late`: what the caller has taken of
-- its prompts and not noted yet.
local function why_over(scope, tenant, rule, batch, prompts, of_late)
  if rule.jobs_max > 0 and redis.call('SISMEMBER', key('jobs', scope, tenant), batch) == 0 then
    local used = jobs_in_flight(scope, tenant, rule.jobs_max)
    if used >= rule.jobs_max then return string.format('jobs %d %d', used, rule.jobs_max), now + PARKED_MS end
  end
  if rule.per_min_max > 0 then
    local used, free_at = packed_of_late(scope, tenant)
    used = used + of_late
    if used > 0 and used + prompts > rule.per_min_max then
      return string.format('rate %d %d', used, rule.per_min_max), free_at > now and free_at or now + MINUTE_MS
    end
  end
end

-- Nothing is in a tenant's way any more that anybody knows of: it is served again in every lane of its account.
local function let_in(scope, tenant)
  for _, lane in ipairs(redis.call('SMEMBERS', T .. ':lanes')) do
    if account_of(lane) == scope and redis.call('HEXISTS', key('over', lane), tenant) == 1 then
      readmit(lane, tenant)
      want(key('lane', lane), scope, 'pack ' .. lane, now)
    end
  end
end

-- A batch's job has ended, or there will be none: it is in flight no more.
local function leave_jobs(batch, lane, pool, limited)
  local scope = pool or account_of(lane)
  for tenant in string.gmatch(limited or '', '%S+') do
    if redis.call('SREM', key('jobs', scope, tenant), batch) == 1 then let_in(scope, tenant) end
  end
end
