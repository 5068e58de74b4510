-- confirm: something that the server's replicas get, so that WAIT after it counts those that have all that came before.
-- WAIT looks at the connection's own last write: a script that wrote nothing, because it had been asked before, would be
-- called confirmed whatever the replicas have (measured).
-- ok
pass_when_full()
redis.call('SET', T .. ':confirm', now, 'EX', 60)
return { 'ok' }
