-- watch: register first, then look. From here on every notice about the segment also goes to this inbox.
-- KEYS: prefix. ARGV: now, segment, producer
-- ok <state> <count> <lane> | unknown
-- takes: _core (key, pass_when_full)
local segment, producer = unpack(ARGV, 2)
local meta_key = key('segmeta', segment)
local m = redis.call('HMGET', meta_key, 'state', 'count', 'lane', 'keys')
if not m[1] or m[4] then return { 'unknown' } end
if m[1] == 'live' then
  pass_when_full()
  redis.call('SADD', key('watch', segment), producer)
  redis.call('HSET', meta_key, 'watched', 1)
end
return { 'ok', m[1], m[2], m[3] }
