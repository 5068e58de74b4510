-- fence: the intent's input file is deleted, so no create of it can succeed any more; the wait for calls in flight and
-- for the provider's listing is counted from here.
-- KEYS: prefix. ARGV: now, batch, fence, delay_ms, by_key
-- delay_ms: until the look. by_key: fingerprint of the key that saw the file
-- ok | stale | state <state>
-- takes: _core (count, key, now, num, pass_when_full, stale)
-- takes: _steps (step_over)
local batch, fence, delay_ms, by_key = unpack(ARGV, 2)
local record = key('batch', batch)
if stale(record, fence) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'fenced_at', 'lease_until')
if b[1] ~= 'submitting' then return { 'state', b[1] or 'gone' } end
if num(b[4]) == 0 then return { 'ok' } end -- asked again: the holder has let go
pass_when_full()
if num(b[3]) == 0 then
  redis.call('HSET', record, 'fenced_at', now)
  if by_key ~= '' then redis.call('HSET', record, 'by_key', by_key) end
  count('fenced', 1)
end
redis.call('HSET', record, 'lease_until', 0)
delay_ms = tonumber(delay_ms)
if redis.call('HDEL', record, 'look_again') == 1 then delay_ms = 0 end
step_over(batch, b[2], nil, 'submit', delay_ms)
return { 'ok' }
