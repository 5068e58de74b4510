-- permit: leave for one interactive call, at most so many a minute for the account and service, evenly spaced after a
-- burst of a second's worth.
-- KEYS: prefix. ARGV: now, account, service, per_min
-- per_min: calls a minute
-- ok <ms to wait before the call>
-- takes: _core (key, now, num, pass_when_full)
local account, service, per_min = unpack(ARGV, 2)
local name, gap_ms = key('pace', account, service), 60000 / tonumber(per_min)
pass_when_full()
local at = math.max(num(redis.call('GET', name)), now - 1000) + gap_ms
redis.call('SET', name, string.format('%.3f', at), 'PX', math.max(60000, math.ceil(at - now)))
return { 'ok', math.max(0, math.ceil(at - now)) }
