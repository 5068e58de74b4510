-- ask: leave to call an interactive service for one prompt, and a note of the call before it is made: a holder that
-- dies leaves it to the next one. A lane whose calls are lost one after the other gives leave to one call at a time,
-- after pauses that double with each that is lost, too.
-- KEYS: prefix. ARGV: now, batch, fence, prompt, calls, again, limits
-- prompt: its key. calls: of which no reply is known, with this one. again: 1 where that is a second one
-- limits: msgpack {silent_calls, first_ms, max_ms}
-- ok | settled (it has its outcome) | silent <since> <ms until the next call> | stale
-- takes: _core (count, key, now, num, pass_when_full, stale)
-- takes: _silence (KEEP_S, pause_ms)
local batch, fence, prompt, calls, again, limits = unpack(ARGV, 2)
local record = key('batch', batch)
if stale(record, fence) then return { 'stale' } end
local origin, index = string.match(prompt, '^(.+)%.(%d+)$')
if redis.call('GETBIT', key('settled', origin), index) == 1 then return { 'settled' } end
pass_when_full()
local lane_key, limit = key('lane', redis.call('HGET', record, 'lane')), cmsgpack.unpack(limits)
local lost = redis.call('HMGET', lane_key, 'lost_calls', 'lost_since', 'probe_at')
if num(lost[1]) >= limit.silent_calls then
  if now < num(lost[3]) then return { 'silent', num(lost[2]), num(lost[3]) - now } end
  redis.call('HSET', lane_key, 'probe_at', now + pause_ms(num(lost[1]), limit))
end
local asked = key('asked', batch)
redis.call('HSET', asked, prompt, calls .. ' ' .. now)
redis.call('EXPIRE', asked, KEEP_S)
count('bought_again', tonumber(again))
return { 'ok' }
