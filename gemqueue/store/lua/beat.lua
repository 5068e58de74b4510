-- beat: a worker is alive, and looks whether the server is still the one that the records were last known whole on.
-- While it is, the moment is noted: what lies before it was written for good.
-- KEYS: prefix. ARGV: now, account, worker, until_ms, at_ms
-- worker: its id and roles. until_ms, at_ms: until when, and what it is now, by the worker's clock
-- ok | held | new (nobody of the account has begun on this server, or it has forgotten: greet)
-- takes: _core (T, key, now, pass_when_full)
-- takes: _server (changed)
local account, worker, until_ms, at_ms = unpack(ARGV, 2)
pass_when_full()
redis.call('ZADD', T .. ':workers', until_ms, worker)
redis.call('ZREMRANGEBYSCORE', T .. ':workers', '-inf', at_ms)
if changed(account) then return { 'held' } end
if redis.call('EXISTS', key('server', account)) == 0 then return { 'new' } end
redis.call('HSET', key('server', account), 'seen_at', now)
return { 'ok' }
