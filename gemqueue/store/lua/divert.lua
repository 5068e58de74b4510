-- divert: a segment that waits to be packed goes over to another lane as it is.
-- KEYS: prefix. ARGV: now, lane, fence, segment, to, full
-- fence: of the lane's rescue step. full: msgpack, of the lane that the segment goes to
-- ok <prompts> | stale | gone (it does not wait here any more)
-- takes: _core (count, key, num, pass_when_full, stale)
-- takes: _deadlines (unpromise)
-- takes: _lanes (unpend, wait)
local lane, fence, segment, to, full = unpack(ARGV, 2)
if stale(key('rescue', lane), fence) then return { 'stale' } end
local meta_key = key('segmeta', segment)
local m = redis.call('HMGET', meta_key, 'state', 'tenant', 'priority', 'count', 'raw_bytes', 'tokens', 'settled',
  'batch')
if m[1] ~= 'live' or m[8] then return { 'gone' } end
pass_when_full()
local meta = { tenant = m[2], priority = num(m[3]), count = num(m[4]), raw_bytes = num(m[5]), tokens = num(m[6]) }
local sizes = { meta.count, meta.raw_bytes, meta.tokens, 1 }
if not unpend(lane, meta.tenant, segment, sizes) and redis.call('ZREM', key('later', lane), segment) == 0 then
  return { 'gone' }
end
redis.call('HSET', meta_key, 'lane', to, 'requeues', 0)
unpromise(lane, segment)
wait(to, segment, meta, 0, cmsgpack.unpack(full))
count('diverted', meta.count - num(m[7]))
return { 'ok', meta.count - num(m[7]) }
