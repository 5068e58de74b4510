-- reserve: room for one more job is taken in the account's ledger, before anything is uploaded. Asking again changes
-- nothing. A batch that alone is over its model's limit is large: it must be divided. One that finds no room, or that
-- others stand before in line, waits there.
-- KEYS: prefix. ARGV: now, batch, fence, limits
-- limits: msgpack {jobs_max, model_jobs_max, tokens_max, stored_bytes_max, wait_ms}
-- ok | large | held <resource> <in use> <limit> <ms until the next try> <1 after a refusal> <the provider's words or
-- ''> | stale | state <state>
-- takes: _core (account_of, key, now, num, pass_when_full, stale)
-- takes: _line (leave_line, line_up, model_of)
-- takes: _quota (first_waiting, lesson, queue_up, reconcile, remember, stored_bytes)
-- takes: _quota (unreserve, usage, waits_for_pool, wake)
local batch, fence, limits = unpack(ARGV, 2)
local record, a = key('batch', batch), cmsgpack.unpack(limits)
if stale(record, fence) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'prompts', 'tokens', 'raw_bytes')
if b[1] ~= 'sealed' then return { 'state', b[1] or 'gone' } end
local account, model = account_of(b[2]), model_of(b[2])
local ratio = tonumber(redis.call('HGET', key('lane', b[2]), 'token_ratio') or 1)
local amount = { jobs = 1, tokens = math.ceil(num(b[4]) * ratio) }
if amount.tokens > a.tokens_max and num(b[3]) > 1 then return { 'large' } end
pass_when_full()
line_up(batch, account)

local function probes(id)
  local b = redis.call('HMGET', key('batch', id), 'state', 'pool')
  return (b[1] == 'sealed' or b[1] == 'submitting') and not waits_for_pool(b[2])
    and redis.call('HEXISTS', key('reserved', account), id) == 1
end

local function unpaid() -- the whole account waits, then for the one batch that tries
  local q = lesson(account, 'spend')
  if not q then return end
  if q.held_until > now then return { 'held', 'spend', 0, 0, q.held_until - now, 1, q.why } end
  if q.probe ~= batch and q.probe ~= '' and probes(q.probe) then
    return { 'held', 'spend', 0, 0, a.wait_ms, 1, q.why }
  end
end

-- One that alone is over the bound goes when nothing else is stored.
local function no_storage(first)
  local bytes = stored_bytes(account, batch)
  if bytes > 0 and (bytes + num(b[5]) > a.stored_bytes_max or first) then
    return { 'held', 'stored_bytes', bytes, a.stored_bytes_max, a.wait_ms, 0 }
  end
end

local function refusal(used)
  local freed_ms = math.min(used.cooled_at and used.cooled_at - now or a.wait_ms, a.wait_ms)
  local own = 'model_jobs/' .. model -- first: a model that fills its share stands in a line of its own
  local firsts = first_waiting(account, batch)
  if used.model_jobs > 0 and (used.model_jobs >= a.model_jobs_max or firsts[own]) then
    return { 'held', own, used.model_jobs, a.model_jobs_max, freed_ms, 0 }
  end
  for _, what in ipairs({ 'jobs', 'tokens' }) do
    local resource = what == 'jobs' and what or 'tokens/' .. model
    local q, limit = lesson(account, resource), a[what .. '_max']
    local refused = q and q.refusals > 0 and 1 or 0
    if q then limit = math.min(limit, math.floor(q.ceiling)) end
    local first = firsts[resource]
    if q and q.held_until > now then -- the first in line tries as soon as it may, and wakes the others
      local wait_ms = first and a.wait_ms or q.held_until - now
      return { 'held', resource, used[what], limit, wait_ms, refused }
    end
    if refused == 1 and q.probe ~= batch and q.probe ~= '' and probes(q.probe) then
      return { 'held', resource, used[what], limit, a.wait_ms, refused }
    end
    if used[what] > 0 and (used[what] + amount[what] > limit or first) then
      return { 'held', resource, used[what], limit, freed_ms, refused }
    end
  end
  return no_storage(firsts.stored_bytes)
end

local used = usage(account, model, batch)
local held = unpaid() or refusal(used)
if held then
  reconcile(account)
  unreserve(batch, b[2], 0)
  queue_up(batch, account, held[2])
  return held
end
redis.call('HSET', key('reserved', account), batch, string.format('%d 0 ', amount.tokens) .. model)
redis.call('HSET', record, 'reserved', amount.tokens, 'reserved_at', now, 'held_for', '')
leave_line(batch, account, model)
for _, resource in ipairs({ 'spend', 'jobs', 'tokens/' .. model }) do
  local q = lesson(account, resource)
  if q and q.refusals > 0 then
    q.probe = batch
    remember(account, resource, q)
  end
end
wake(account, model)
return { 'ok' }
