-- permit: leave for one interactive call, at most so many a minute for the account and service, evenly spaced after a
-- burst of a second's worth.
-- ARGV[2] account, ARGV[3] service, ARGV[4] calls a minute
-- ok <ms to wait before the call>
-- takes: _core (key, now, num, pass_when_full)
local name, gap_ms = key('pace', ARGV[2], ARGV[3]), 60000 / tonumber(ARGV[4])
pass_when_full()
local at = math.max(num(redis.call('GET', name)), now - 1000) + gap_ms
redis.call('SET', name, string.format('%.3f', at), 'PX', math.max(60000, math.ceil(at - now)))
return { 'ok', math.max(0, math.ceil(at - now)) }
