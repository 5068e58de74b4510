-- accept: the job exists; its name is recorded and it will be tracked. `how` is created or adopted. An event that came
-- before the record, or while the create was under way, makes the first look due now.
-- ARGV[2] batch, ARGV[3] fence, ARGV[4] job, ARGV[5] how, ARGV[6] delay ms until the first look
-- ok | stale | state <state>
local record = key('batch', ARGV[2])
local b = redis.call('HMGET', record, 'state', 'lane', 'job', 'intent_file', 'prompts')
if b[1] == 'submitted' and b[3] == ARGV[4] then return { 'ok' } end
if stale(record, ARGV[3]) then return { 'stale' } end
if b[1] ~= 'submitting' then return { 'state', b[1] or 'gone' } end
pass_when_full()
redis.call('HSET', record, 'state', 'submitted', 'job', ARGV[4], 'input_file', b[4], 'accepted_at', now, 'lease_until', 0,
  'crashes', 0, 'held_reason', '', 'held_since', 0)
redis.call('SET', key('job', ARGV[4]), ARGV[2])
local delay_ms = tonumber(ARGV[6])
if redis.call('GETDEL', key('early', ARGV[4])) then
  redis.call('HSET', record, 'event_at', now)
  redis.call('HSET', key('lane', b[2]), 'announced_at', now)
end
if redis.call('HDEL', record, 'look_again') == 1 or num(redis.call('HGET', record, 'event_at')) > 0 then delay_ms = 0 end
step_over(ARGV[2], b[2], 'submit', 'track', delay_ms)
count(ARGV[5], 1)
count('submitted', num(b[5]))
return { 'ok' }
