-- suspend: the provider refuses for want of money: a spend cap, credits used up, billing that is off. No quota frees
-- itself by waiting for other jobs, so no ceiling falls: the account as a whole creates nothing until the hold is over,
-- then tries with one batch alone. Refusals of batches that were under way together count as one; the first create that
-- succeeds ends it (`grow`). The batch stands in line.
-- KEYS: prefix. ARGV: now, batch, fence, refusal
-- refusal: msgpack {first_ms, max_ms, wish_ms, why: the provider's words}
-- ok <hold ms> <refusals in a row> | stale | state <state>
-- takes: _core (account_of, count, key, now, num, pass_when_full, stale)
-- takes: _quota (lesson, queue_up, remember)
local batch, fence, refusal = unpack(ARGV, 2)
local record, a = key('batch', batch), cmsgpack.unpack(refusal)
if stale(record, fence) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'reserved_at')
if b[1] ~= 'submitting' and b[1] ~= 'sealed' then return { 'state', b[1] or 'gone' } end
pass_when_full()
local account = account_of(b[2])
local q = lesson(account, 'spend') or { ceiling = 0, max = 0, refusals = 0, shrunk_at = 0, held_until = 0, probe = '' }
if num(b[3]) > q.shrunk_at then
  q.refusals, q.shrunk_at, q.why = q.refusals + 1, now, a.why
  local hold_ms = math.max(a.wish_ms, math.min(a.max_ms, a.first_ms * 2 ^ math.min(20, q.refusals - 1)))
  q.held_until = math.max(q.held_until, now + hold_ms)
  count('spend_refused', 1)
end
remember(account, 'spend', q)
queue_up(batch, account, 'spend')
return { 'ok', math.max(0, q.held_until - now), q.refusals }
