-- note_unknown: jobs of ours that no record knows were listed. One that is listed again, again_ms or more after the
-- first time, is counted, once. No more than 1,000 are kept in mind.
-- KEYS: prefix. ARGV: now, account, again_ms, keep_s, each (job, token, state, created_at)
-- ok <the jobs that are counted now>
-- takes: _core (count, key, now, num, pass_when_full)
-- takes: _groups (groups)
local account, again_ms, keep_s = unpack(ARGV, 2, 4)
local NOTED_MAX = 1000
local noted, counted = key('unknown', account), {}
pass_when_full()
for job, token, state, created_at in groups(5, 4) do
  local packed = redis.call('HGET', noted, job)
  if packed or redis.call('HLEN', noted) < NOTED_MAX then
    -- token, state, created_at, first_at, whether it was counted, the state in which it was compared
    local one = packed and cmsgpack.unpack(packed) or { token, state, num(created_at), now, 0, '' }
    one[2] = state
    if one[5] == 0 and now - one[4] >= tonumber(again_ms) then
      one[5] = 1
      counted[#counted + 1] = job
    end
    redis.call('HSET', noted, job, cmsgpack.pack(one))
  end
end
redis.call('EXPIRE', noted, keep_s)
count('unknown_jobs', #counted)
return { 'ok', counted }
