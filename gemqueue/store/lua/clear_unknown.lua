-- clear_unknown: jobs that no record knew were compared with the records. What is known now, or over, is forgotten.
-- KEYS: prefix. ARGV: now, account, each (job, compared)
-- compared: the state in which the job was compared and stayed unknown; '' to forget it
-- ok
-- takes: _core (key, pass_when_full)
-- takes: _groups (groups)
local account = ARGV[2]
local noted = key('unknown', account)
pass_when_full()
for job, compared in groups(3, 2) do
  local packed = redis.call('HGET', noted, job)
  if compared == '' then
    redis.call('HDEL', noted, job)
  elseif packed then
    local one = cmsgpack.unpack(packed)
    one[6] = compared
    redis.call('HSET', noted, job, cmsgpack.pack(one))
  end
end
return { 'ok' }
