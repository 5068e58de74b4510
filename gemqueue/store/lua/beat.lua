-- beat: a worker is alive, and looks whether the server is still the one that the records were last known whole on.
-- While it is, the moment is noted: what lies before it was written for good.
-- ARGV[2] account, ARGV[3] member of workers, ARGV[4] until when (the worker's clock, ms), ARGV[5] its clock now, ms
-- ok | held | new (nobody of the account has begun on this server, or it has forgotten: greet)
-- takes: _core (T, key, now, pass_when_full)
-- takes: _server (changed)
pass_when_full()
redis.call('ZADD', T .. ':workers', ARGV[4], ARGV[3])
redis.call('ZREMRANGEBYSCORE', T .. ':workers', '-inf', ARGV[5])
if changed(ARGV[2]) then return { 'held' } end
if redis.call('EXISTS', key('server', ARGV[2])) == 0 then return { 'new' } end
redis.call('HSET', key('server', ARGV[2]), 'seen_at', now)
return { 'ok' }
