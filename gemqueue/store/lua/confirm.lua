-- confirm: something that the server's replicas get, so that WAIT after it counts those that have all that came before.
-- WAIT looks at the connection's own last write: a script that wrote nothing, because it had been asked before, would
-- be called confirmed whatever the replicas have (measured).
-- With a batch it also says whether that is closed here: another server may have taken the place of the one that was
-- told.
-- KEYS: prefix. ARGV: now, batch
-- batch: or ''
-- ok | open
-- takes: _core (T, key, now, pass_when_full)
local batch = ARGV[2]
pass_when_full()
redis.call('SET', T .. ':confirm', now, 'EX', 60)
if batch ~= '' and redis.call('HGET', key('batch', batch), 'state') ~= 'closed' then return { 'open' } end
return { 'ok' }
