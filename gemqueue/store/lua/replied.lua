-- replied: what came of a call at an interactive service. A lost reply counts, and leaves the note of the call as it
-- is; a refusal sets it back, for nothing was billed. Any reply ends the silence of the lane.
-- KEYS: prefix. ARGV: now, batch, fence, prompt, how, calls, limits
-- prompt: its key. how: answered, refused or lost. calls: as many are in doubt now. limits: as of ask
-- ok <lost calls in a row> <since> | stale
-- takes: _core (count, key, now, num, pass_when_full, stale)
-- takes: _silence (pause_ms)
local batch, fence, prompt, how, calls, limits = unpack(ARGV, 2)
local record = key('batch', batch)
if stale(record, fence) then return { 'stale' } end
pass_when_full()
local lane_key, limit = key('lane', redis.call('HGET', record, 'lane')), cmsgpack.unpack(limits)
if how ~= 'lost' then
  if how == 'refused' then
    if tonumber(calls) > 0 then redis.call('HSET', key('asked', batch), prompt, calls .. ' ' .. now)
    else redis.call('HDEL', key('asked', batch), prompt) end
  end
  redis.call('HDEL', lane_key, 'lost_calls', 'lost_since', 'probe_at')
  return { 'ok', 0, 0 }
end
count('interactive_in_doubt', 1)
redis.call('HSETNX', lane_key, 'lost_since', now)
local lost = redis.call('HINCRBY', lane_key, 'lost_calls', 1)
if lost >= limit.silent_calls then redis.call('HSET', lane_key, 'probe_at', now + pause_ms(lost, limit)) end
return { 'ok', lost, num(redis.call('HGET', lane_key, 'lost_since')) }
