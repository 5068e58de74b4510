-- requeue: lines of a batch's segments go on into a retry segment, which is registered and their `moved` bits set
-- together. With a new batch id the retry segment is sealed at once into a batch of its own (a line that the provider
-- refused). The id holds the fence, so asking again changes nothing.
-- ARGV[2] batch, ARGV[3] fence, ARGV[4] msgpack {id, lane, tenant, priority, count, raw_bytes, tokens, attempt,
-- requeues, delay_ms, new_batch, refusals, deadline_at, look_ms, full={...}}, ARGV[5] body, ARGV[6] msgpack keys
-- [[origin, [index]]],
-- then for each segment that lines leave: ARGV[i] segment, bitmap of its lines
-- ok | stale | state <state> | conflict <segment>
-- takes: _core (VERSION, count, key, now, num, pass_when_full, stale)
-- takes: _bitmaps (merged, overlaps)
-- takes: _deadlines (promise)
-- takes: _segments (went_to)
-- takes: _lanes (wait)
-- takes: _batches (seal)
local record, a = key('batch', ARGV[2]), cmsgpack.unpack(ARGV[4])
local meta_key = key('segmeta', a.id)
if redis.call('EXISTS', meta_key) == 1 then return { 'ok' } end
if stale(record, ARGV[3]) then return { 'stale' } end
local state = redis.call('HGET', record, 'state')
if state ~= 'ended' and state ~= 'closing' and state ~= 'sealed' then return { 'state', state or 'gone' } end
local maps = {}
for i = 7, #ARGV, 2 do
  local old = redis.call('GET', key('moved', ARGV[i])) or ''
  if overlaps(old, ARGV[i + 1]) then return { 'conflict', ARGV[i] } end
  maps[i] = merged(old, ARGV[i + 1])
end

pass_when_full()
for i = 7, #ARGV, 2 do
  redis.call('SET', key('moved', ARGV[i]), maps[i])
  went_to(ARGV[i], a.id)
end
redis.call('SET', key('segment', a.id), ARGV[5])
redis.call('HSET', meta_key, 'v', VERSION, 'state', 'live', 'count', a.count, 'bytes', #ARGV[5],
  'raw_bytes', a.raw_bytes, 'tokens', a.tokens, 'lane', a.lane, 'tenant', a.tenant, 'priority', a.priority,
  'attempt', a.attempt, 'requeues', a.requeues, 'keys', ARGV[6], 'created_at', now)
count('live_bytes', #ARGV[5])
count('requeued', a.count)
promise(a.lane, a.id, a.deadline_at, a.look_ms)
if a.new_batch == '' then
  wait(a.lane, a.id, a, now + math.max(a.delay_ms, num(a.look_ms)), a.full)
else
  redis.call('HSET', meta_key, 'batch', a.new_batch)
  redis.call('RPUSH', key('manifest', a.new_batch), a.id)
  local b = redis.call('HMGET', record, 'lane', 'pool')
  seal(a.new_batch, b[1], { 'fence', 0, 'created_at', now, 'prompts', a.count, 'raw_bytes', a.raw_bytes,
    'tokens', a.tokens, 'segments', 1, 'refusals', a.refusals, 'solo', a.count == 1 and 1 or 0 })
  if b[2] then redis.call('HSET', key('batch', a.new_batch), 'pool', b[2]) end
  redis.call('HSET', record, 'refusals', a.refusals)
end
return { 'ok' }
