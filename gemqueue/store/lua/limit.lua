-- limit: what a tenant may have: its share, jobs in flight, prompts a minute; and how long its outcomes are kept, of
-- what is finished from now on. What is '' stays as it is, 0 takes it away; a tenant without any has no record. It
-- holds for what is packed from now on, and who was passed over is looked at again.
-- KEYS: prefix. ARGV: now, account, tenant, weight, jobs_max, per_min_max, keep_outcome_s
-- account: or a pool
-- ok <weight> <jobs_max> <per_min_max> <keep_outcome_s>, 0 for none
-- takes: _core (T, account_of, has_word, key, num)
-- takes: _tenants (IN_FLIGHT, enter_job, let_in)
local account, tenant, weight, jobs_max, per_min_max, keep_outcome_s = unpack(ARGV, 2)
local record, known = key('tenant', account, tenant), key('tenant', account)
local given = { weight = weight, jobs_max = jobs_max, per_min_max = per_min_max, keep_outcome_s = keep_outcome_s }
for field, value in pairs(given) do
  if value == '0' then redis.call('HDEL', record, field)
  elseif value ~= '' then redis.call('HSET', record, field, value) end
end
if redis.call('EXISTS', record) == 1 then redis.call('SADD', known, tenant) else redis.call('SREM', known, tenant) end

-- The jobs that are in flight already count.
local function join(batch)
  local b = redis.call('HMGET', key('batch', batch), 'state', 'lane', 'pool', 'limited')
  if not IN_FLIGHT[b[1] or ''] or (b[3] or account_of(b[2])) ~= account or has_word(b[4] or '', tenant) then return end
  if num(redis.call('HGET', key('shares', batch), tenant)) == 0 then return end
  redis.call('HSET', key('batch', batch), 'limited', (b[4] or '') .. ' ' .. tenant)
  enter_job(batch, account, tenant)
end
local has = redis.call('HMGET', record, 'weight', 'jobs_max', 'per_min_max', 'keep_outcome_s')
if num(has[2]) > 0 then
  for _, batch in ipairs(redis.call('ZRANGE', T .. ':batches', 0, -1)) do join(batch) end
end
let_in(account, tenant)
return { 'ok', num(has[1]), num(has[2]), num(has[3]), num(has[4]) }
