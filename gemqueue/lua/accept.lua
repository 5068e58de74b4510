-- accept: the job exists; its name is recorded and it will be tracked. `how` is created or adopted.
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
step_over(ARGV[2], b[2], 'submit', 'track', tonumber(ARGV[6]))
count(ARGV[5], 1)
count('submitted', num(b[5]))
return { 'ok' }
