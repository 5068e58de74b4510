-- replay: dead letters become a live segment, and leave the dead: all of them, or nothing is done. A name that still
-- stands for a dead prompt stands for the new one from then on. Asking again under the same segment changes nothing.
-- KEYS: prefix. ARGV: now, segment, each (letter)
-- segment: msgpack {id, lane, tenant, priority, count, raw_bytes, tokens, full={...}, memory_bytes_max, names=[[name
-- key, old value, new value]]}. letter: its id in the stream; at most 1,000
-- ok | gone <id> (somebody else has taken it) | full | resend (the body is gone)
-- takes: _core (T, VERSION, account_of, count, key, now)
-- takes: _groups (groups)
-- takes: _expiry (has_room)
-- takes: _lanes (wait)
-- takes: _tally (tally)
-- takes: _dead (unbury)
local segment = ARGV[2]
local a = cmsgpack.unpack(segment)
local body, meta_key = key('segment', a.id), key('segmeta', a.id)
if redis.call('EXISTS', meta_key) == 1 then return { 'ok' } end
local letters = {}
for letter in groups(3, 1) do
  local found = redis.call('XRANGE', T .. ':dead', letter, letter)[1]
  if not found then
    redis.call('UNLINK', body)
    return { 'gone', letter }
  end
  letters[#letters + 1] = found
end
local size = redis.call('STRLEN', body)
if size == 0 then return { 'resend' } end
if not has_room(size, a.memory_bytes_max) then
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
for _, letter in ipairs(letters) do unbury(letter[1], letter[2]) end
count('accepted', a.count)
tally(account_of(a.lane), a.tenant, 'accepted', a.count)
count('replayed', a.count)
count('live_bytes', size)
wait(a.lane, a.id, a, 0, a.full)
return { 'ok' }
