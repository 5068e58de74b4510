-- purge_run: forget a run and the outcomes of its segments. Refused while one of them is live: cancel it first.
-- ARGV[2] account, ARGV[3] name (empty: leave the run's record), ARGV[4...] segments, at most 500
-- ok <how many were there> | live <segment>
-- takes: _core (T, count, key, num, pass_when_full)
for i = 4, #ARGV do
  if redis.call('HGET', key('segmeta', ARGV[i]), 'state') == 'live' then return { 'live', ARGV[i] } end
end
pass_when_full()
local n = 0
for i = 4, #ARGV do
  local id, meta_key = ARGV[i], key('segmeta', ARGV[i])
  local freed = redis.call('HGET', meta_key, 'outcome_bytes')
  if freed and redis.call('ZREM', T .. ':kept', id .. ' ' .. num(freed)) == 1 then count('live_bytes', -num(freed)) end
  local names = redis.call('GET', key('names', id))
  if names then redis.call('UNLINK', unpack(cmsgpack.unpack(names))) end
  n = n + redis.call('EXISTS', meta_key)
  redis.call('UNLINK', meta_key, key('segment', id), key('settled', id), key('outcomes', id), key('names', id),
    key('watch', id))
end
if ARGV[3] ~= '' then redis.call('UNLINK', key('run', ARGV[2], ARGV[3]), key('runlist', ARGV[2], ARGV[3])) end
return { 'ok', n }
