-- end: the job is terminal, or the batch will never be submitted. A job that failed or expired as a whole halves the
-- lane's batches; one that succeeded, and was no smaller than half of what is allowed, lets them grow back. Asking
-- again under the same fence changes nothing.
-- With `sample`, the job's size class and bucket, the model's turnaround history learns how long it took.
-- With `seen_what` the look that saw the end is the first of those that it takes to believe that nothing came.
-- The batch's reservation goes back, after a cool-off where there was a job: so short beside it that it costs no
-- throughput.
-- KEYS: prefix. ARGV: now, batch, fence, ending
-- ending: msgpack {job_state, output_file, rows, error, operation, delay_ms, prompts_max, sample, cool_ms, halve,
-- seen_what}
-- ok | stale | state <state>
-- takes: _core (BELIEVES, account_of, count, key, now, num, pass_when_full, raise_v, stale)
-- takes: _steps (step_over)
-- takes: _batches (JOB_KEEP_S, prove)
-- takes: _line (leave_line, model_of)
-- takes: _quota (unreserve, wake)
-- takes: _tenants (leave_jobs)
local batch, fence, ending = unpack(ARGV, 2)
local HALF_LIFE_MS, JOBS_MAX = 3 * 24 * 3600 * 1000, 200
local COOL_SHARE = 0.04 -- of how long the job took

-- One histogram a size class. What is older weighs less: by half after three days, and whenever 200 are exceeded.
local function learn(account, model, size, bucket)
  local history = key('turnaround', account, model)
  local packed = redis.call('HGET', history, size)
  local h = packed and cmsgpack.unpack(packed) or { at = now, w = {} }
  local fresh, mass, w = 0.5 ^ math.min(100, math.max(0, now - h.at) / HALF_LIFE_MS), 1, {}
  for _, weight in pairs(h.w) do mass = mass + weight * fresh end
  if mass > JOBS_MAX then fresh = fresh / 2 end
  for name, weight in pairs(h.w) do
    if weight * fresh > 0.001 then w[name] = weight * fresh end
  end
  w[tostring(bucket)] = (w[tostring(bucket)] or 0) + 1
  redis.call('HSET', history, size, cmsgpack.pack({ at = now, w = w }))
end

local record, a = key('batch', batch), cmsgpack.unpack(ending)
if stale(record, fence) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'prompts', 'job', 'event_at', 'intent_at', 'pool',
  'limited')
if b[1] == 'ended' then return { 'ok' } end
if b[1] ~= 'submitted' and b[1] ~= 'sealed' then return { 'state', b[1] or 'gone' } end
pass_when_full()
redis.call('HSET', record, 'state', 'ended', 'job_state', a.job_state, 'output_file', a.output_file, 'error', a.error,
  'operation', a.operation, 'ended_at', now, 'lease_until', 0, 'crashes', 0, 'tries', 0,
  'denials', 0, 'short_reads', 0, 'rows', a.rows, 'held_reason', '', 'held_since', 0)
redis.call('HDEL', record, 'look_again', 'seen_what', 'seen_n', 'seen_first_at', 'seen_last_at', 'deaths')
if (a.seen_what or '') ~= '' then
  redis.call('HSET', record, 'seen_what', a.seen_what, 'seen_n', 1, 'seen_first_at', now, 'seen_last_at', now)
  raise_v(record, BELIEVES)
end
step_over(batch, b[2], b[1] == 'sealed' and 'submit' or 'track', 'resolve', a.delay_ms)
local lane_key = key('lane', b[2])
local ceiling = num(redis.call('HGET', lane_key, 'ceiling'))
if a.job_state == 'failed' or a.job_state == 'expired' or a.halve then
  local half = math.max(1, math.floor(num(b[3]) / 2))
  if ceiling == 0 or half < ceiling then redis.call('HSET', lane_key, 'ceiling', half) end
elseif a.job_state == 'succeeded' and ceiling > 0 and num(b[3]) * 2 >= ceiling then
  if ceiling * 2 >= a.prompts_max then redis.call('HDEL', lane_key, 'ceiling')
  else redis.call('HSET', lane_key, 'ceiling', ceiling * 2) end
end
local cool_ms = math.floor(math.min(num(a.cool_ms), math.max(0, now - num(b[6])) * COOL_SHARE))
unreserve(batch, b[2], b[1] == 'submitted' and cool_ms or 0)
leave_line(batch, account_of(b[2]), model_of(b[2]))
leave_jobs(batch, b[2], b[7], b[8])
wake(account_of(b[2]), model_of(b[2]))
if a.sample then learn(account_of(b[2]), model_of(b[2]), a.sample[1], a.sample[2]) end
if b[1] == 'submitted' then
  redis.call('EXPIRE', key('job', b[4]), JOB_KEEP_S)
  if a.job_state ~= 'cancelled' then prove(lane_key, num(b[5]) > 0) end
end
count('ended_' .. a.job_state, 1)
return { 'ok' }
