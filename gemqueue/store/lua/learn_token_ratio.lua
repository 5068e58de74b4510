-- learn_token_ratio: how many tokens the provider counted for each that was estimated, in one batch of a lane:
-- three tenths of the lane's ratio come from the newest batch.
-- KEYS: prefix. ARGV: now, lane, ratio
-- ratio: the batch's
-- ok
-- takes: _core (key, pass_when_full)
local lane, ratio = unpack(ARGV, 2)
local lane_key = key('lane', lane)
local old = tonumber(redis.call('HGET', lane_key, 'token_ratio') or ratio)
pass_when_full()
ratio = math.max(0.05, math.min(20, 0.7 * old + 0.3 * tonumber(ratio)))
redis.call('HSET', lane_key, 'token_ratio', string.format('%.4f', ratio))
return { 'ok' }
