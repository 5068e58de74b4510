-- enqueue: a segment whose body was written with SET NX EX becomes live, once, however often it is asked for.
-- KEYS: prefix. ARGV: now, segment, entry
-- segment: msgpack {id, lane, tenant, priority, count, raw_bytes, tokens, producer, names=[[index, name, digest, plain
-- name]], memory_bytes_max, full={prompts, raw_bytes, tokens, linger_ms}, run, epoch, deadline_at, review_ms}
-- plain name: of a sealed name (a keyed digest), by which it was known before the queue was sealed; else ''
-- entry: what the run's list gets with it
-- ok <the account's home, or ''> | taken <list of "index key digest merges"> (nothing written; merges: the digest is
-- of a whole config) | full | resend (the body is gone) | sealed (the queue is: under a plain name a prompt would be
-- bought again) | superseded (the run is another process's now, or was purged)
-- takes: _core (VERSION, account_of, count, key, now, num)
-- takes: _expiry (has_room)
-- takes: _deadlines (promise)
-- takes: _lanes (wait)
-- takes: _tally (tally)
local segment, entry = unpack(ARGV, 2)
local a = cmsgpack.unpack(segment)
local body, meta_key, account = key('segment', a.id), key('segmeta', a.id), account_of(a.lane)
local home = redis.call('HGET', key('server', account), 'home') or ''
local state = redis.call('HGET', meta_key, 'state')
if state then
  if state == 'closed' then redis.call('UNLINK', body) end
  return { 'ok', home }
end

local run, runlist = key('run', account, a.run), key('runlist', account, a.run)
if a.run ~= '' and num(redis.call('HGET', run, 'epoch')) ~= a.epoch then
  redis.call('UNLINK', body)
  return { 'superseded' }
end

if a.names[1] and a.names[1][4] == '' and redis.call('EXISTS', key('seal', '+names')) == 1 then
  redis.call('UNLINK', body)
  return { 'sealed' }
end
local taken = {}
for _, n in ipairs(a.names) do
  local known = redis.call('GET', key('name', account, n[2]))
  if not known and n[4] ~= '' then known = redis.call('GET', key('name', account, n[4])) end
  if known then
    local merges = redis.call('HGET', key('segmeta', string.match(known, '^[^.]+')), 'merges') or '0'
    taken[#taken + 1] = string.format('%d ', n[1]) .. known .. ' ' .. merges
  end
end
if #taken > 0 then
  redis.call('UNLINK', body)
  return { 'taken', taken }
end

local size = redis.call('STRLEN', body)
if size == 0 then return { 'resend' } end
if not has_room(size, a.memory_bytes_max) then return { 'full' } end

redis.call('PERSIST', body)
redis.call('HSET', meta_key, 'v', VERSION, 'state', 'live', 'count', a.count, 'bytes', size, 'raw_bytes', a.raw_bytes,
  'tokens', a.tokens, 'lane', a.lane, 'tenant', a.tenant, 'priority', a.priority, 'producer', a.producer,
  'created_at', now)
if #a.names > 0 then
  local owned = {}
  for i, n in ipairs(a.names) do
    owned[i] = key('name', account, n[2])
    redis.call('SET', owned[i], a.id .. '.' .. string.format('%d', n[1]) .. ' ' .. n[3])
  end
  redis.call('SET', key('names', a.id), cmsgpack.pack(owned))
  redis.call('HSETNX', key('account', account), 'named_at', now)
  redis.call('HSET', meta_key, 'named', 1, 'merges', 1)
end
if a.run ~= '' then
  redis.call('HSET', meta_key, 'run', a.run)
  redis.call('HINCRBY', run, 'open', 1)
  redis.call('HINCRBY', run, 'rows', a.count)
  redis.call('RPUSH', runlist, entry)
  redis.call('PERSIST', run)
  redis.call('PERSIST', runlist)
end
count('accepted', a.count)
tally(account, a.tenant, 'accepted', a.count)
count('live_bytes', size)
promise(a.lane, a.id, a.deadline_at, a.review_ms)
wait(a.lane, a.id, a, num(a.review_ms) > 0 and now + a.review_ms or 0, a.full)
return { 'ok', home }
