-- deliver: the caller's code has taken every outcome of these segments; those that nobody else can ask for may go
-- sooner.
-- ARGV[2] keep s, ARGV[3...] segments, at most 100: some 5 commands each
-- ok <how many were shortened>
-- takes: _core (T, key, now, num, pass_when_full)
-- takes: _expiry (forget_expired, set_ttl)
pass_when_full()
local keep_s, n = tonumber(ARGV[2]), 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local m = redis.call('HMGET', key('segmeta', id), 'state', 'named', 'watched', 'outcome_bytes')
  if m[1] == 'closed' and not m[2] and not m[3] then
    set_ttl(keep_s, key('segmeta', id), key('settled', id), key('outcomes', id))
    redis.call('ZADD', T .. ':kept', now + keep_s * 1000, id .. ' ' .. num(m[4]))
    n = n + 1
  end
end
forget_expired()
return { 'ok', n }
