-- rescue: lines of a segment in an open batch go on into a retry segment of another lane: their batch is not expected
-- to bring them in time. It counts them as it counts those that were cancelled. The id holds the fence of the rescue
-- step, so asking again changes nothing.
-- KEYS: prefix. ARGV: now, lane, fence, retry, body, keys, segment, bits, batch
-- lane: the batch's. fence: of the lane's rescue step. retry: msgpack {id, lane, tenant, priority, count, raw_bytes,
-- tokens, attempt, deadline_at, doubts, full={...}}. keys: msgpack [[origin, [index]]]. segment, bits: what the
-- lines leave, and which
-- ok | stale | gone (the segment is open in that batch no more) | conflict (some of the lines have gone on already)
-- takes: _core (VERSION, count, key, now, num, pass_when_full, stale)
-- takes: _bitmaps (merged, overlaps)
-- takes: _deadlines (unpromise)
-- takes: _segments (went_to)
-- takes: _lanes (wait)
local lane, fence, retry, body, keys, segment, bits, batch = unpack(ARGV, 2)
local a = cmsgpack.unpack(retry)
local meta_key = key('segmeta', a.id)
if redis.call('EXISTS', meta_key) == 1 then return { 'ok' } end
if stale(key('rescue', lane), fence) then return { 'stale' } end
local m = redis.call('HMGET', key('segmeta', segment), 'state', 'batch', 'bytes')
-- Without a body the batch has closed it.
if m[1] ~= 'live' or m[2] ~= batch or num(m[3]) == 0 then return { 'gone' } end
local old = redis.call('GET', key('moved', segment)) or ''
if overlaps(old, bits) then return { 'conflict' } end
pass_when_full()
redis.call('SET', key('moved', segment), merged(old, bits))
went_to(segment, a.id)
unpromise(lane, segment)
redis.call('SET', key('segment', a.id), body)
redis.call('HSET', meta_key, 'v', VERSION, 'state', 'live', 'count', a.count, 'bytes', #body,
  'raw_bytes', a.raw_bytes, 'tokens', a.tokens, 'lane', a.lane, 'tenant', a.tenant, 'priority', a.priority,
  'attempt', a.attempt, 'requeues', 0, 'keys', keys, 'created_at', now, 'deadline_at', a.deadline_at)
if num(a.doubts) > 0 then redis.call('HSET', meta_key, 'doubts', a.doubts) end
count('live_bytes', #body)
count('rescued', a.count)
local record = key('batch', batch)
if redis.call('EXISTS', record) == 1 then redis.call('HINCRBY', record, 'cancels', a.count) end
count('cancels_placed', a.count)
wait(a.lane, a.id, a, 0, a.full)
return { 'ok' }
