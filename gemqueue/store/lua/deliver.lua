-- deliver: the caller's code has taken every outcome of these segments; those that nobody else can ask for may go
-- sooner.
-- KEYS: prefix. ARGV: now, keep_s, each (segment)
-- at most 100 segments: some 5 commands each
-- ok <how many were shortened>
-- takes: _core (T, key, now, num, pass_when_full)
-- takes: _groups (groups)
-- takes: _expiry (forget_expired, set_ttl)
local keep_s = ARGV[2]
pass_when_full()
local n = 0
for segment in groups(3, 1) do
  local m = redis.call('HMGET', key('segmeta', segment), 'state', 'named', 'watched', 'outcome_bytes')
  if m[1] == 'closed' and not m[2] and not m[3] then
    set_ttl(keep_s, key('segmeta', segment), key('settled', segment), key('outcomes', segment))
    redis.call('ZADD', T .. ':kept', now + keep_s * 1000, segment .. ' ' .. num(m[4]))
    n = n + 1
  end
end
forget_expired()
return { 'ok', n }
