-- announce: a genuine event says that a job has ended. Nothing is believed of the job itself: its batch's next poll is
-- due now. Of a create in doubt the event names the job, where it carries the intent's own token. An event is heard
-- once; one of a job that no batch has yet is remembered for a while, because it may overtake our own record.
-- KEYS: prefix. ARGV: now, event, job, token, named, heard_s, early_s
-- event: its id. token: what it carries of ours, or ''. named: the batch that the token names, or ''. heard_s: how long
-- an event is known by its id. early_s: how long a job without a batch is remembered
-- ok <submit | track | late> <batch> | double | early | stray <batch> (a job of an intent that was given up)
-- takes: _core (SEALED, account_of, count, has_word, key, now, num, pass_when_full)
-- takes: _steps (want)
-- takes: _batches (prove)
local event, job, token, named, heard_s, early_s = unpack(ARGV, 2)
pass_when_full()
if not redis.call('SET', key('heard', event), 1, 'NX', 'EX', heard_s) then
  count('events_doubled', 1)
  return { 'double' }
end
count('events', 1)
local id = redis.call('GET', key('job', job))
if not id and named ~= '' then id = named end
local record = key('batch', id or '')
local b = redis.call('HMGET', record, 'state', 'lane', 'job', 'intent_token', 'event_at', 'ended_at', 'v',
  'missed_jobs')
if not b[1] or num(b[7]) > SEALED then
  redis.call('SET', key('early', job), 1, 'EX', early_s)
  count('events_early', 1)
  return { 'early' }
end

local account, lane_key = account_of(b[2]), key('lane', b[2])
if b[1] == 'submitting' and token ~= '' and b[4] == token then
  redis.call('HSET', record, 'event_at', now, 'event_job', job)
  redis.call('HSET', lane_key, 'announced_at', now)
  want(record, account, 'submit ' .. id, now)
  return { 'ok', 'submit', id }
end
if has_word(b[8] or '', job) then return { 'ok', 'late', id } end -- it missed its input, and has been replaced
if b[3] ~= job then
  count('events_stray', 1)
  return { 'stray', id }
end
redis.call('HSET', lane_key, 'announced_at', now)
if num(b[5]) == 0 then redis.call('HSET', record, 'event_at', now) end
if b[1] == 'submitted' then
  want(record, account, 'track ' .. id, now)
  return { 'ok', 'track', id }
end
-- A poll that was a little quicker than the event says nothing against the webhook.
if num(b[5]) == 0 and now - num(b[6]) <= 60000 then prove(lane_key, true) end
return { 'ok', 'late', id }
