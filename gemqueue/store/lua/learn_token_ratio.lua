-- learn_token_ratio: how many tokens the provider counted for each that was estimated, in one batch of a lane:
-- three tenths of the lane's ratio come from the newest batch.
-- ARGV[2] lane, ARGV[3] the batch's ratio
-- ok
-- takes: _core (key, pass_when_full)
local lane_key = key('lane', ARGV[2])
local old = tonumber(redis.call('HGET', lane_key, 'token_ratio') or ARGV[3])
pass_when_full()
local ratio = math.max(0.05, math.min(20, 0.7 * old + 0.3 * tonumber(ARGV[3])))
redis.call('HSET', lane_key, 'token_ratio', string.format('%.4f', ratio))
return { 'ok' }
