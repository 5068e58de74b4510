-- beat: a worker is alive, and looks whether the server is still the one that the records were last known whole on.
-- While it is, the moment is noted: what lies before it was written for good. Until when a worker counts as alive goes
-- by this server's clock, so that none whose clock is ahead drops the others.
-- KEYS: prefix. ARGV: now, account, worker, roles, ttl_ms, accounts, host, pid, version, swept_at, waiting_for, known
-- ttl_ms: for how long it counts as alive. accounts: those that it serves, with blanks between them. known: msgpack
-- {home, run_id, seen_at, fence}, what it remembers of the server
-- ok | held | new (nobody of the account has begun on this server, or it has forgotten: greet); each with <home or ''>
-- <run id or ''> <why nothing is bought: the server has forgotten a home that a worker remembers, or ''> <now>
-- takes: _core (T, key, now, pass_when_full)
-- takes: _server (changed, recall)
local account, worker, roles, ttl_ms, accounts, host, pid, version, swept_at, waiting_for, known = unpack(ARGV, 2)
local server, knows = key('server', account), cmsgpack.unpack(known)
pass_when_full()
redis.call('ZADD', T .. ':workers', now + ttl_ms, worker .. ' ' .. roles)
redis.call('ZREMRANGEBYSCORE', T .. ':workers', '-inf', now)
local record = key('worker', worker)
redis.call('HSETNX', record, 'began_at', now)
redis.call('HSET', record, 'roles', roles, 'accounts', accounts, 'host', host, 'pid', pid, 'version', version,
  'beat_at', now, 'last_good_sweep_at', swept_at, 'waiting_for', waiting_for)
-- Longer than the member: one that has none counts as a worker of 0.2.0.
redis.call('PEXPIRE', record, 2 * ttl_ms)
recall(account, knows)
local is_new = changed(account, knows.fence)
local s = redis.call('HMGET', server, 'home', 'run_id', 'forgot_reason')
local word = is_new and 'held' or not s[1] and 'new' or 'ok'
if word == 'ok' then redis.call('HSET', server, 'seen_at', now) end
return { word, s[1] or '', s[2] or '', s[3] or '', now }
