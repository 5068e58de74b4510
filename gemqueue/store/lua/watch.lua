-- watch: register first, then look. From here on every notice about the segment also goes to this inbox. Where as many
-- watch as are told, those of them whose inbox is gone make room; without that this one has to look by itself.
-- KEYS: prefix. ARGV: now, segment, producer
-- ok <state> <count> <lane> | unknown
-- takes: _core (key, pass_when_full)
-- takes: _watchers (WATCHERS_MAX)
local segment, producer = unpack(ARGV, 2)
local meta_key = key('segmeta', segment)
local m = redis.call('HMGET', meta_key, 'state', 'count', 'lane', 'keys')
if not m[1] or m[4] then return { 'unknown' } end
if m[1] == 'live' then
  pass_when_full()
  local watch = key('watch', segment)
  if redis.call('SCARD', watch) >= WATCHERS_MAX and redis.call('SISMEMBER', watch, producer) == 0 then
    for _, who in ipairs(redis.call('SRANDMEMBER', watch, WATCHERS_MAX)) do
      if redis.call('EXISTS', key('inbox', who)) == 0 then redis.call('SREM', watch, who) end
    end
  end
  if redis.call('SCARD', watch) < WATCHERS_MAX then redis.call('SADD', watch, producer) end
  redis.call('HSET', meta_key, 'watched', 1)
end
return { 'ok', m[1], m[2], m[3] }
