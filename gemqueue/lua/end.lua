-- end: the job is terminal, or the batch will never be submitted. A job that failed or expired as a whole halves the lane's
-- batches; one that succeeded, and was no smaller than half of what is allowed, lets them grow back. Asking again under the
-- same fence changes nothing.
-- ARGV[2] batch, ARGV[3] fence, ARGV[4] msgpack {job_state, output_file, error, operation, delay_ms, prompts_max}
-- ok | stale | state <state>
local record, a = key('batch', ARGV[2]), cmsgpack.unpack(ARGV[4])
if stale(record, ARGV[3]) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'prompts')
if b[1] == 'ended' then return { 'ok' } end
if b[1] ~= 'submitted' and b[1] ~= 'sealed' then return { 'state', b[1] or 'gone' } end
pass_when_full()
redis.call('HSET', record, 'state', 'ended', 'job_state', a.job_state, 'output_file', a.output_file, 'error', a.error,
  'operation', a.operation, 'ended_at', now, 'lease_until', 0, 'crashes', 0, 'tries', 0, 'held_reason', '', 'held_since', 0)
redis.call('HDEL', record, 'look_again')
step_over(ARGV[2], b[2], b[1] == 'sealed' and 'submit' or 'track', 'resolve', a.delay_ms)
local lane_key = key('lane', b[2])
local ceiling = num(redis.call('HGET', lane_key, 'ceiling'))
if a.job_state == 'failed' or a.job_state == 'expired' then
  local half = math.max(1, math.floor(num(b[3]) / 2))
  if ceiling == 0 or half < ceiling then redis.call('HSET', lane_key, 'ceiling', half) end
elseif a.job_state == 'succeeded' and ceiling > 0 and num(b[3]) * 2 >= ceiling then
  if ceiling * 2 >= a.prompts_max then redis.call('HDEL', lane_key, 'ceiling')
  else redis.call('HSET', lane_key, 'ceiling', ceiling * 2) end
end
count('ended_' .. a.job_state, 1)
return { 'ok' }
