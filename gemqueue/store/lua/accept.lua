-- accept: the job exists; its name is recorded and it will be tracked. `how` is created or adopted; a sealed batch
-- adopts the job of an intent that it does not know any more, because the server lost it, or because it was thought
-- dead: then it is told when the job was created and which key sees it, and the job enters the quota ledger. An event
-- that came before the record, or while the create was under way, makes the first look due now.
-- ARGV[2] batch, ARGV[3] fence, ARGV[4] job, ARGV[5] how, ARGV[6] delay ms until the first look,
-- and of a job that was found: ARGV[7] its input file or '', ARGV[8] when it was created, ms or 0 where that is not
-- known,
-- ARGV[9] fingerprint of a key that sees it
-- ok | stale | state <state>
-- takes: _core (account_of, count, key, now, num, pass_when_full, stale)
-- takes: _steps (step_over)
-- takes: _quota (book, grow, model_of, wake)
local record = key('batch', ARGV[2])
local b = redis.call('HMGET', record, 'state', 'lane', 'job', 'intent_file', 'prompts')
if b[1] == 'submitted' and b[3] == ARGV[4] then return { 'ok' } end
if stale(record, ARGV[3]) then return { 'stale' } end
if b[1] ~= 'submitting' and not (b[1] == 'sealed' and ARGV[5] == 'adopted') then return { 'state', b[1] or 'gone' } end
pass_when_full()
local input_file = (ARGV[7] or '') ~= '' and ARGV[7] or b[4] or ''
redis.call('HSET', record, 'state', 'submitted', 'job', ARGV[4], 'input_file', input_file, 'accepted_at', now,
  'lease_until', 0, 'crashes', 0, 'held_reason', '', 'held_since', 0)
if num(redis.call('HGET', record, 'intent_at')) == 0 then
  redis.call('HSET', record, 'intent_at', num(ARGV[8]) > 0 and ARGV[8] or now)
end
if (ARGV[9] or '') ~= '' then redis.call('HSET', record, 'by_key', ARGV[9]) end
book(ARGV[2], b[2])
redis.call('SET', key('job', ARGV[4]), ARGV[2])
local delay_ms = tonumber(ARGV[6])
if redis.call('GETDEL', key('early', ARGV[4])) then
  redis.call('HSET', record, 'event_at', now)
  redis.call('HSET', key('lane', b[2]), 'announced_at', now)
end
if redis.call('HDEL', record, 'look_again') == 1 or num(redis.call('HGET', record, 'event_at')) > 0 then
  delay_ms = 0
end
step_over(ARGV[2], b[2], 'submit', 'track', delay_ms)
grow(ARGV[2], b[2])
wake(account_of(b[2]), model_of(b[2]))
count(ARGV[5] == 'adopted' and 'adopted' or 'created', 1)
count('submitted', num(b[5]))
return { 'ok' }
