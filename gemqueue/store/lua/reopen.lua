-- reopen: the intent is proven dead (refused, or fenced and nowhere to be found): the batch is sealed again. Its token
-- stays in the record. With a delay the step is put back for later; with -1 the holder goes on under its lease. A batch
-- that is sealed under the caller's fence has been reopened by it already: asking again changes nothing. The intent is
-- named, since a copy of the call that comes late may find the next one, begun under the same fence: that one is not
-- dead.
-- ARGV[2] batch, ARGV[3] fence, ARGV[4] delay ms or -1, ARGV[5] held reason or '', ARGV[6] the dead intent's token,
-- ARGV[7...] fields to set. With missed_jobs among them the intent's job was there, and failed for want of its file: as
-- restart.
-- ok | stale | state <state>
-- takes: _core (account_of, key, now, pass_when_full, stale)
-- takes: _steps (step_over)
-- takes: _batches (missed_input)
-- takes: _quota (unreserve)
local record = key('batch', ARGV[2])
if stale(record, ARGV[3]) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'past_tokens', 'intent_token', 'held_reason')
if b[1] == 'sealed' then return { 'ok' } end
if b[1] ~= 'submitting' or b[4] ~= ARGV[6] then return { 'state', b[1] or 'gone' } end
pass_when_full()
local past = b[3] and b[3] ~= '' and (b[3] .. ' ') or ''
redis.call('HSET', record, 'state', 'sealed', 'past_tokens', past .. b[4], 'intent_token', '', 'intent_file', '',
  'intent_at', 0, 'fenced_at', 0, unpack(ARGV, 7))
if ARGV[5] == '' or (b[5] or '') == '' then redis.call('HSET', record, 'held_since', ARGV[5] == '' and 0 or now) end
redis.call('HSET', record, 'held_reason', ARGV[5]) -- another reason, or other numbers in it: held since the first
for i = 7, #ARGV, 2 do
  if ARGV[i] == 'missed_jobs' then missed_input(record, account_of(b[2]), true) end
end
local delay_ms = tonumber(ARGV[4])
if delay_ms >= 0 then
  redis.call('HSET', record, 'lease_until', 0)
  step_over(ARGV[2], b[2], nil, 'submit', delay_ms)
  unreserve(ARGV[2], b[2], 0)
end
return { 'ok' }
