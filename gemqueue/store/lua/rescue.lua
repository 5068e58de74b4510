-- rescue: lines of a segment in an open batch go on into a retry segment of another lane: their batch is not expected
-- to bring them in time. The id holds the fence of the rescue step, so asking again changes nothing.
-- ARGV[2] the batch's lane, ARGV[3] fence of its rescue step, ARGV[4] msgpack {id, lane, tenant, priority, count,
-- raw_bytes, tokens, attempt, deadline_at, full={...}}, ARGV[5] body, ARGV[6] msgpack keys [[origin, [index]]],
-- ARGV[7] the segment that they leave, ARGV[8] bitmap of its lines, ARGV[9] its batch
-- ok | stale | gone (the segment is open in that batch no more) | conflict (some of the lines have gone on already)
-- takes: _core (VERSION, count, key, now, num, pass_when_full, stale)
-- takes: _bitmaps (merged, overlaps)
-- takes: _deadlines (unpromise)
-- takes: _segments (went_to)
-- takes: _lanes (wait)
local lane, a, id = ARGV[2], cmsgpack.unpack(ARGV[4]), ARGV[7]
local meta_key = key('segmeta', a.id)
if redis.call('EXISTS', meta_key) == 1 then return { 'ok' } end
if stale(key('rescue', lane), ARGV[3]) then return { 'stale' } end
local m = redis.call('HMGET', key('segmeta', id), 'state', 'batch', 'bytes')
-- Without a body the batch has closed it.
if m[1] ~= 'live' or m[2] ~= ARGV[9] or num(m[3]) == 0 then return { 'gone' } end
local old = redis.call('GET', key('moved', id)) or ''
if overlaps(old, ARGV[8]) then return { 'conflict' } end
pass_when_full()
redis.call('SET', key('moved', id), merged(old, ARGV[8]))
went_to(id, a.id)
unpromise(lane, id)
redis.call('SET', key('segment', a.id), ARGV[5])
redis.call('HSET', meta_key, 'v', VERSION, 'state', 'live', 'count', a.count, 'bytes', #ARGV[5],
  'raw_bytes', a.raw_bytes, 'tokens', a.tokens, 'lane', a.lane, 'tenant', a.tenant, 'priority', a.priority,
  'attempt', a.attempt, 'requeues', 0, 'keys', ARGV[6], 'created_at', now, 'deadline_at', a.deadline_at)
count('live_bytes', #ARGV[5])
count('rescued', a.count)
wait(a.lane, a.id, a, 0, a.full)
return { 'ok' }
