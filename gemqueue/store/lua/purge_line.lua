-- purge_line: a value of a segment is replaced by one without a purged prompt, if it still is what it was.
-- KEYS: prefix. ARGV: now, segment, place, digest, value
-- place: in the list of outcomes, or -1 for the body. digest: SHA-1 of the old value. value: the new one
-- ok | changed (nothing is written)
-- takes: _core (T, count, key, num, pass_when_full)
local segment, place, digest, value = unpack(ARGV, 2)
local meta_key, body, outcomes = key('segmeta', segment), key('segment', segment), key('outcomes', segment)
place = tonumber(place)
local old
if place < 0 then old = redis.call('GET', body) else old = redis.call('LINDEX', outcomes, place) end
if not old or redis.sha1hex(old) ~= digest then return { 'changed' } end
local more = #value - #old
pass_when_full()
if place < 0 then
  redis.call('SET', body, value, 'KEEPTTL')
  redis.call('HINCRBY', meta_key, 'bytes', more)
else
  redis.call('LSET', outcomes, place, value)
  local bytes = redis.call('HGET', meta_key, 'outcome_bytes')
  local score = redis.call('ZSCORE', T .. ':kept', segment .. ' ' .. num(bytes))
  local now_bytes = redis.call('HINCRBY', meta_key, 'outcome_bytes', more)
  if score then
    redis.call('ZREM', T .. ':kept', segment .. ' ' .. num(bytes))
    redis.call('ZADD', T .. ':kept', score, segment .. ' ' .. now_bytes)
  end
end
count('live_bytes', more)
return { 'ok' }
