-- reopen: the intent is proven dead (refused, or fenced and nowhere to be found): the batch is sealed again. Its token
-- stays in the record. With a delay the step is put back for later; with -1 the holder goes on under its lease. A batch
-- that is sealed under the caller's fence has been reopened by it already: asking again changes nothing. The intent is
-- named, since a copy of the call that comes late may find the next one, begun under the same fence: that one is not
-- dead.
-- KEYS: prefix. ARGV: now, batch, fence, delay_ms, held_reason, token, each (field, value)
-- delay_ms: or -1. held_reason: or ''. token: the dead intent's. field, value: to set in the record.
-- With missed_jobs among them the intent's job was there, and failed for want of its file: as restart.
-- ok | stale | state <state>
-- takes: _core (account_of, key, now, pass_when_full, raise_v, stale)
-- takes: _groups (groups)
-- takes: _steps (step_over)
-- takes: _batches (missed_input)
-- takes: _quota (unreserve)
local batch, fence, delay_ms, held_reason, token = unpack(ARGV, 2, 6)
local record = key('batch', batch)
if stale(record, fence) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'past_tokens', 'intent_token', 'held_reason', 'v')
if b[1] == 'sealed' then return { 'ok' } end
if b[1] ~= 'submitting' or b[4] ~= token then return { 'state', b[1] or 'gone' } end
pass_when_full()
local past = b[3] and b[3] ~= '' and (b[3] .. ' ') or ''
redis.call('HSET', record, 'state', 'sealed', 'past_tokens', past .. b[4], 'intent_token', '', 'intent_file', '',
  'intent_at', 0, 'fenced_at', 0, unpack(ARGV, 7))
raise_v(record, b[6])
if held_reason == '' or (b[5] or '') == '' then
  redis.call('HSET', record, 'held_since', held_reason == '' and 0 or now)
end
redis.call('HSET', record, 'held_reason', held_reason) -- another reason, or other numbers in it: held since the first
for field in groups(7, 2) do
  if field == 'missed_jobs' then missed_input(record, account_of(b[2]), true) end
end
delay_ms = tonumber(delay_ms)
if delay_ms >= 0 then
  redis.call('HSET', record, 'lease_until', 0)
  step_over(batch, b[2], nil, 'submit', delay_ms)
  unreserve(batch, b[2], 0)
end
return { 'ok' }
