-- deliver: the caller's code has taken every outcome of these segments; those that nobody else can ask for may go
-- sooner, and where it has their keys only if room is short.
-- KEYS: prefix. ARGV: now, keep_s, room_bytes, each (segment)
-- room_bytes: nothing is shortened while the queue takes no more than that; -1 for always. At most 100 segments: some 5
-- commands each
-- ok <how many were shortened>
-- takes: _core (T, key, now, num, pass_when_full)
-- takes: _groups (groups)
-- takes: _expiry (forget_expired, kept_for, set_ttl)
local keep_s, room_bytes = unpack(ARGV, 2, 3)
pass_when_full()
local n, short = 0, num(redis.call('HGET', T .. ':counts', 'live_bytes')) > tonumber(room_bytes)
for segment in groups(4, 1) do
  local m = redis.call('HMGET', key('segmeta', segment), 'state', 'named', 'watched', 'outcome_bytes',
    'lane', 'tenant')
  if short and m[1] == 'closed' and not m[2] and not m[3] then
    local keep_s = math.min(keep_s, kept_for(m[5], m[6], keep_s))
    set_ttl(keep_s, key('segmeta', segment), key('settled', segment), key('outcomes', segment))
    redis.call('ZADD', T .. ':kept', now + keep_s * 1000, segment .. ' ' .. num(m[4]))
    n = n + 1
  end
end
forget_expired()
return { 'ok', n }
