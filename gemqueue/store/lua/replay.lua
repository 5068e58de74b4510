-- replay: dead letters become a live segment, and leave the dead: all of them, or nothing is done. A name that still
-- stands for a dead prompt stands for the new one from then on. Asking again under the same segment changes nothing.
-- ARGV[2] msgpack {id, lane, tenant, priority, count, raw_bytes, tokens, full={...}, memory_bytes_max, names=[[name
-- key, old value, new value]]}, ARGV[3...] ids in the stream, at most 1,000
-- ok | gone <id> (somebody else has taken it) | full | resend (the body is gone)
-- takes: _core (T, VERSION, count, key, now, num)
-- takes: _lanes (wait)
-- takes: _dead (unbury)
local a = cmsgpack.unpack(ARGV[2])
local body, meta_key = key('segment', a.id), key('segmeta', a.id)
if redis.call('EXISTS', meta_key) == 1 then return { 'ok' } end
local letters = {}
for i = 3, #ARGV do
  letters[i] = redis.call('XRANGE', T .. ':dead', ARGV[i], ARGV[i])[1]
  if not letters[i] then
    redis.call('UNLINK', body)
    return { 'gone', ARGV[i] }
  end
end
local size = redis.call('STRLEN', body)
if size == 0 then return { 'resend' } end
if num(redis.call('HGET', T .. ':counts', 'live_bytes')) + size > a.memory_bytes_max then
  redis.call('UNLINK', body)
  return { 'full' }
end

redis.call('PERSIST', body)
redis.call('HSET', meta_key, 'v', VERSION, 'state', 'live', 'count', a.count, 'bytes', size, 'raw_bytes', a.raw_bytes,
  'tokens', a.tokens, 'lane', a.lane, 'tenant', a.tenant, 'priority', a.priority, 'created_at', now)
local owned, merges = {}, 1
for _, n in ipairs(a.names) do
  if redis.call('GET', n[1]) == n[2] then
    redis.call('SET', n[1], n[3])
    owned[#owned + 1] = n[1]
    local origin = string.match(n[2], '^[^.]+')
    local before = key('names', origin)
    if redis.call('HGET', key('segmeta', origin), 'merges') ~= '1' then merges = 0 end -- one of 0.2.0 is among them
    local kept, packed = {}, redis.call('GET', before)
    for _, name in ipairs(packed and cmsgpack.unpack(packed) or {}) do
      if name ~= n[1] then kept[#kept + 1] = name end
    end
    if packed and #kept > 0 then
      redis.call('SET', before, cmsgpack.pack(kept), 'KEEPTTL')
    else
      redis.call('UNLINK', before)
    end
  end
end
if #owned > 0 then
  redis.call('SET', key('names', a.id), cmsgpack.pack(owned))
  redis.call('HSET', meta_key, 'named', 1, 'merges', merges)
end
for i = 3, #ARGV do unbury(letters[i][1], letters[i][2]) end
count('accepted', a.count)
count('replayed', a.count)
count('live_bytes', size)
wait(a.lane, a.id, a, 0, a.full)
return { 'ok' }
