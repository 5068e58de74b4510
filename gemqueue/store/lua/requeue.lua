-- requeue: lines of a batch's segments go on into a retry segment, which is registered and their `moved` bits set
-- together. With a new batch id the retry segment is sealed at once into a batch of its own (a line that the provider
-- refused). The id holds the fence, so asking again changes nothing.
-- KEYS: prefix. ARGV: now, batch, fence, retry, body, keys, each (segment, bits)
-- retry: msgpack {id, lane, tenant, priority, count, raw_bytes, tokens, attempt, requeues, delay_ms, new_batch,
-- refusals, deadline_at, doubts, review_ms, full={...}}. keys: msgpack [[origin, [index]]]. segment, bits: what lines
-- leave, and which
-- ok | stale | state <state> | conflict <segment>
-- takes: _core (SEALED, VERSION, account_of, count, has_word, is_sealed, key, now, num, pass_when_full, raise_v, stale)
-- takes: _groups (groups)
-- takes: _bitmaps (merged, overlaps)
-- takes: _deadlines (promise)
-- takes: _segments (went_to)
-- takes: _lanes (wait)
-- takes: _batches (seal)
-- takes: _tenants (enter_job, share)
local batch, fence, retry, body, keys = unpack(ARGV, 2, 6)
local record, a = key('batch', batch), cmsgpack.unpack(retry)
local meta_key = key('segmeta', a.id)
if redis.call('EXISTS', meta_key) == 1 then return { 'ok' } end
if stale(record, fence) then return { 'stale' } end
local state = redis.call('HGET', record, 'state')
if state ~= 'ended' and state ~= 'closing' and state ~= 'sealed' then return { 'state', state or 'gone' } end
local maps = {}
for segment, bits in groups(7, 2) do
  local old = redis.call('GET', key('moved', segment)) or ''
  if overlaps(old, bits) then return { 'conflict', segment } end
  maps[segment] = merged(old, bits)
end

pass_when_full()
for segment in groups(7, 2) do
  redis.call('SET', key('moved', segment), maps[segment])
  went_to(segment, a.id)
end
redis.call('SET', key('segment', a.id), body)
redis.call('HSET', meta_key, 'v', VERSION, 'state', 'live', 'count', a.count, 'bytes', #body,
  'raw_bytes', a.raw_bytes, 'tokens', a.tokens, 'lane', a.lane, 'tenant', a.tenant, 'priority', a.priority,
  'attempt', a.attempt, 'requeues', a.requeues, 'keys', keys, 'created_at', now)
if num(a.doubts) > 0 then redis.call('HSET', meta_key, 'doubts', a.doubts) end
count('live_bytes', #body)
count('requeued', a.count)
promise(a.lane, a.id, a.deadline_at, a.review_ms)
if a.new_batch == '' then
  wait(a.lane, a.id, a, now + math.max(a.delay_ms, num(a.review_ms)), a.full)
else
  redis.call('HSET', meta_key, 'batch', a.new_batch)
  redis.call('RPUSH', key('manifest', a.new_batch), a.id)
  local b = redis.call('HMGET', record, 'lane', 'pool', 'limited', 'v')
  local limited = has_word(b[3] or '', a.tenant) and a.tenant or ''
  seal(a.new_batch, b[1], { 'fence', 0, 'created_at', now, 'prompts', a.count, 'raw_bytes', a.raw_bytes,
    'tokens', a.tokens, 'segments', 1, 'priority', a.priority, 'limited', limited, 'refusals', a.refusals,
    'solo', a.count == 1 and 1 or 0 })
  share(a.new_batch, a.tenant, a.count)
  if limited ~= '' then enter_job(a.new_batch, b[2] or account_of(b[1]), a.tenant) end
  raise_v(key('batch', a.new_batch), is_sealed(a.id) and SEALED or b[4])
  if b[2] then redis.call('HSET', key('batch', a.new_batch), 'pool', b[2]) end
  redis.call('HSET', record, 'refusals', a.refusals)
end
return { 'ok' }
