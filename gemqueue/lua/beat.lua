-- beat: a worker lives; those that have been silent are forgotten. A script, so that it passes on a full server too.
-- ARGV[2] worker and roles, ARGV[3] the worker's clock in ms, ARGV[4] for how many ms it counts
-- ok
pass_when_full()
redis.call('ZADD', T .. ':workers', ARGV[3] + ARGV[4], ARGV[2])
redis.call('ZREMRANGEBYSCORE', T .. ':workers', '-inf', ARGV[3])
return { 'ok' }
