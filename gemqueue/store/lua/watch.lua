-- watch: register first, then look. From here on every notice about the segment also goes to this inbox.
-- ARGV[2] segment, ARGV[3] producer
-- ok <state> <count> <lane> | unknown
-- takes: _core (key, pass_when_full)
local meta_key = key('segmeta', ARGV[2])
local m = redis.call('HMGET', meta_key, 'state', 'count', 'lane', 'keys')
if not m[1] or m[4] then return { 'unknown' } end
if m[1] == 'live' then
  pass_when_full()
  redis.call('SADD', key('watch', ARGV[2]), ARGV[3])
  redis.call('HSET', meta_key, 'watched', 1)
end
return { 'ok', m[1], m[2], m[3] }
