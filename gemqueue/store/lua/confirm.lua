-- confirm: something that the server's replicas get, so that WAIT after it counts those that have all that came before.
-- WAIT looks at the connection's own last write: a script that wrote nothing, because it had been asked before, would
-- be called confirmed whatever the replicas have (measured).
-- With a batch it also says whether that is closed here: another server may have taken the place of the one that was
-- told.
-- ARGV[2] batch, or nothing
-- ok | open
-- takes: _core (T, key, now, pass_when_full)
pass_when_full()
redis.call('SET', T .. ':confirm', now, 'EX', 60)
if ARGV[2] and redis.call('HGET', key('batch', ARGV[2]), 'state') ~= 'closed' then return { 'open' } end
return { 'ok' }
