-- restart: the batch's job has failed for want of its input file, which says nothing of its prompts: the batch is
-- sealed again as it was. It costs no attempt and no requeue, and the lane's batches stay as large as they are. From
-- then on the record is of the second layout: a worker that does not know it would delete the next file as soon as its
-- job runs, and fail the prompts. Where the file had been deleted, the account has proven that its jobs need them,
-- which is remembered. The job is named, so asking again changes nothing.
-- KEYS: prefix. ARGV: now, batch, fence, job, delay_ms, held_reason, proven
-- proven: '1' where the file had been deleted
-- ok | stale | state <state>
-- takes: _core (account_of, has_word, key, now, pass_when_full, stale)
-- takes: _steps (step_over)
-- takes: _batches (JOB_KEEP_S, missed_input)
-- takes: _line (model_of)
-- takes: _quota (unreserve, wake)
local batch, fence, job, delay_ms, held_reason, proven = unpack(ARGV, 2)
local record = key('batch', batch)
if stale(record, fence) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'job', 'missed_jobs')
local missed = b[4] or ''
if b[1] == 'sealed' and has_word(missed, job) then return { 'ok' } end
if b[1] ~= 'submitted' or b[3] ~= job then return { 'state', b[1] or 'gone' } end
pass_when_full()
local account = account_of(b[2])
redis.call('HSET', record, 'state', 'sealed', 'missed_jobs', missed == '' and b[3] or missed .. ' ' .. b[3],
  'job', '', 'input_file', '', 'intent_token', '', 'intent_file', '', 'intent_at', 0, 'fenced_at', 0, 'accepted_at', 0,
  'polls', 0, 'tries', 0, 'denials', 0, 'crashes', 0, 'slow_at', 0, 'cancel_at', 0, 'cancels_seen', 0, 'operation', '',
  'held_reason', held_reason, 'held_cause', 'input', 'held_since', now, 'lease_until', 0)
redis.call('HDEL', record, 'event_at', 'event_job', 'look_again', 'seen_what', 'seen_n', 'seen_first_at',
  'seen_last_at')
step_over(batch, b[2], 'track', 'submit', tonumber(delay_ms))
unreserve(batch, b[2], 0)
wake(account, model_of(b[2]))
redis.call('EXPIRE', key('job', b[3]), JOB_KEEP_S)
missed_input(record, account, proven == '1')
return { 'ok' }
