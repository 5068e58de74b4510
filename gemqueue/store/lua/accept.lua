-- accept: the job exists; its name is recorded and it will be tracked. `how` is created or adopted; a sealed batch
-- adopts the job of an intent that it does not know any more, because the server lost it, or because it was thought
-- dead: then it is told when the job was created and which key sees it, and the job enters the quota ledger. An event
-- that came before the record, or while the create was under way, makes the first poll due now.
-- KEYS: prefix. ARGV: now, batch, fence, job, how, delay_ms, input_file, created_at_ms, by_key
-- delay_ms: until the first poll. The last three are of a job that was found, else empty: its input file, when it was
-- created (ms, or 0 where that is not known), fingerprint of a key that sees it
-- ok | stale | state <state>
-- takes: _core (account_of, count, key, now, num, pass_when_full, stale)
-- takes: _steps (step_over)
-- takes: _line (model_of)
-- takes: _quota (book, grow, wake)
local batch, fence, job, how, delay_ms, input_file, created_at_ms, by_key = unpack(ARGV, 2)
local record = key('batch', batch)
local b = redis.call('HMGET', record, 'state', 'lane', 'job', 'intent_file', 'prompts')
if b[1] == 'submitted' and b[3] == job then return { 'ok' } end
if stale(record, fence) then return { 'stale' } end
if b[1] ~= 'submitting' and not (b[1] == 'sealed' and how == 'adopted') then return { 'state', b[1] or 'gone' } end
pass_when_full()
if input_file == '' then input_file = b[4] or '' end
redis.call('HSET', record, 'state', 'submitted', 'job', job, 'input_file', input_file, 'accepted_at', now,
  'lease_until', 0, 'crashes', 0, 'held_reason', '', 'held_since', 0)
redis.call('HDEL', record, 'seen_what', 'seen_n', 'seen_first_at', 'seen_last_at', 'deaths')
if num(redis.call('HGET', record, 'intent_at')) == 0 then
  redis.call('HSET', record, 'intent_at', num(created_at_ms) > 0 and created_at_ms or now)
end
if by_key ~= '' then redis.call('HSET', record, 'by_key', by_key) end
book(batch, b[2])
redis.call('SET', key('job', job), batch)
delay_ms = tonumber(delay_ms)
if redis.call('GETDEL', key('early', job)) then
  redis.call('HSET', record, 'event_at', now)
  redis.call('HSET', key('lane', b[2]), 'announced_at', now)
end
if redis.call('HDEL', record, 'look_again') == 1 or num(redis.call('HGET', record, 'event_at')) > 0 then
  delay_ms = 0
end
step_over(batch, b[2], 'submit', 'track', delay_ms)
grow(batch, b[2])
wake(account_of(b[2]), model_of(b[2]))
count(how == 'adopted' and 'adopted' or 'created', 1)
count('submitted', num(b[5]))
return { 'ok' }
