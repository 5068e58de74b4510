-- purge_run: forget a run and the outcomes of its segments. Refused while one of them is live: cancel it first.
-- KEYS: prefix. ARGV: now, account, name, each (segment)
-- name: or '' to leave the run's record; at most 500 segments
-- ok <how many were there> | live <segment>
-- takes: _core (T, count, key, num, pass_when_full)
-- takes: _groups (groups)
-- takes: _names (names_of)
local account, name = unpack(ARGV, 2, 3)
for segment in groups(4, 1) do
  if redis.call('HGET', key('segmeta', segment), 'state') == 'live' then return { 'live', segment } end
end
pass_when_full()
local n = 0
for segment in groups(4, 1) do
  local meta_key = key('segmeta', segment)
  local freed = redis.call('HGET', meta_key, 'outcome_bytes')
  if freed and redis.call('ZREM', T .. ':kept', segment .. ' ' .. num(freed)) == 1 then
    count('live_bytes', -num(freed))
  end
  for _, name in ipairs(names_of(segment)) do redis.call('UNLINK', name) end
  n = n + redis.call('EXISTS', meta_key)
  redis.call('UNLINK', meta_key, key('segment', segment), key('settled', segment), key('outcomes', segment),
    key('names', segment), key('watch', segment))
end
if name ~= '' then redis.call('UNLINK', key('run', account, name), key('runlist', account, name)) end
return { 'ok', n }
