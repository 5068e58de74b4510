-- shrink: the provider has refused a create for quota (429). The ceiling of what is to blame falls to what is in use,
-- or to nine tenths of what was tried; nothing of it is created until the hold is over, then by one batch alone until
-- that is accepted. A first refusal with others in use needs no hold: the ceiling lets nothing in until one of them
-- ends. Refusals of batches that were under way together count as one. What has been in use before is remembered: a
-- refusal far below it is about something else, and the ceiling comes back quickly. The batch stands in line again.
-- KEYS: prefix. ARGV: now, batch, fence, refusal
-- refusal: msgpack {resource='jobs'|'tokens', jobs_max, tokens_max, first_ms, max_ms, wish_ms}
-- ok <hold ms> <refusals in a row> <1 when nothing else was in use and as much never was> | stale | state <state>
-- takes: _core (account_of, count, key, now, num, pass_when_full, stale)
-- takes: _line (model_of)
-- takes: _quota (lesson, queue_up, remember, usage)
local batch, fence, refusal = unpack(ARGV, 2)
local record, a = key('batch', batch), cmsgpack.unpack(refusal)
if stale(record, fence) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'reserved', 'reserved_at')
if b[1] ~= 'submitting' then return { 'state', b[1] or 'gone' } end
pass_when_full()
local account, model = account_of(b[2]), model_of(b[2])
local resource = a.resource == 'jobs' and 'jobs' or 'tokens/' .. model
local amount = a.resource == 'jobs' and 1 or num(b[3])
local used = usage(account, model, batch)[a.resource]
local q = lesson(account, resource)
  or { ceiling = 0, base = 0, proven = 0, since = 0, refusals = 0, shrunk_at = 0, held_until = 0, probe = '' }
q.max = a[a.resource .. '_max']
if num(b[4]) > q.shrunk_at then
  q.refusals, q.since, q.shrunk_at = q.refusals + 1, 0, now
  local total = used + amount
  q.proven = math.max(q.proven, used)
  q.ceiling = math.max(amount, math.min(used, math.floor(total * 0.9)))
  if total > q.proven / 2 then q.proven = math.max(used, math.min(q.proven, math.floor(total * 0.9))) end
  q.base = q.ceiling
  local hold_ms = math.min(a.max_ms, a.first_ms * 2 ^ math.min(20, q.refusals - 1))
  if q.refusals == 1 and used > 0 then hold_ms = 0 end
  if a.wish_ms > 0 then hold_ms = math.min(a.max_ms, math.max(a.wish_ms, 1)) end
  q.held_until = math.max(q.held_until, now + hold_ms)
  count('quota_refused', 1)
end
remember(account, resource, q)
queue_up(batch, account, resource)
return { 'ok', math.max(0, q.held_until - now), q.refusals, used == 0 and amount > q.proven and 1 or 0 }
