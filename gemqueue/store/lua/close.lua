-- close: check and clean a slice of at most 125 segments. A segment is done when each of its lines is settled or moved.
-- In mode `requeue` (the job as a whole came to nothing) a segment that is not done goes back to its lane as it is,
-- free of charge, each time after a wait eight times as long, until it has been sent back requeues_max times. Nothing
-- is written unless the whole slice can be handled. Where a person gave the batch back to its pool, there was no job:
-- that counts for nothing, and nothing waits for it.
-- KEYS: prefix. ARGV: now, batch, fence, terms
-- terms: msgpack {mode, requeues_max, keep_s, delay_ms, delay_max_ms, full={...}}
-- ok closing | ok closed | stale | state <state> | open <segments that are not done, or are out of requeues>
-- takes: _core (T, count, key, now, num, pass_when_full, stale)
-- takes: _steps (step_over)
-- takes: _bitmaps (has_bit)
-- takes: _deadlines (unpromise)
-- takes: _lanes (wait)
local batch, fence, terms = unpack(ARGV, 2)
local record, a = key('batch', batch), cmsgpack.unpack(terms)
local b = redis.call('HMGET', record, 'state', 'lane', 'closed_segments', 'segments', 'job_state')
if b[1] == 'closed' then return { 'ok', 'closed' } end
if stale(record, fence) then return { 'stale' } end
if b[1] ~= 'ended' and b[1] ~= 'closing' then return { 'state', b[1] or 'gone' } end
local manifest, start, job = key('manifest', batch), num(b[3]), b[5] ~= 'returned'

-- An origin that is gone had all of its outcomes, and they have expired.
local settled_of = {}
local function settled(origin, index)
  local map = settled_of[origin]
  if map == nil then
    map = redis.call('GET', key('settled', origin)) or (redis.call('EXISTS', key('segmeta', origin)) == 1 and '')
    settled_of[origin] = map
  end
  return not map or has_bit(map, index)
end
local checks = 0
local function done(id, m)
  local moved = redis.call('GET', key('moved', id)) or ''
  if m.keys then
    checks = checks + m.count
    local line = 0
    for _, origin in ipairs(cmsgpack.unpack(m.keys)) do
      for _, index in ipairs(origin[2]) do
        if not settled(origin[1], index) and not has_bit(moved, line) then return false end
        line = line + 1
      end
    end
    return true
  end
  if moved == '' then return m.settled >= m.count end
  checks = checks + m.count
  for index = 0, m.count - 1 do
    if not settled(id, index) and not has_bit(moved, index) then return false end
  end
  return true
end

local slice, open = {}, {}
for _, id in ipairs(redis.call('LRANGE', manifest, start, start + 124)) do
  local f = redis.call('HMGET', key('segmeta', id), 'state', 'count', 'settled', 'keys', 'requeues', 'bytes', 'batch',
    'lane')
  local m = { id = id, state = f[1], count = num(f[2]), settled = num(f[3]), keys = f[4], requeues = num(f[5]),
    bytes = num(f[6]), lane = f[8] }
  m.done = m.state ~= 'live' or f[7] ~= batch or done(id, m)
  m.ours = f[7] == batch
  if not m.done and (a.mode ~= 'requeue' or (job and m.requeues >= a.requeues_max)) then open[#open + 1] = id end
  slice[#slice + 1] = m
  if checks >= 10000 then break end
end
if #open > 0 then return { 'open', open } end

pass_when_full()
for _, m in ipairs(slice) do
  local meta_key = key('segmeta', m.id)
  if not m.done then
    if job then redis.call('HINCRBY', meta_key, 'requeues', 1) end
    redis.call('HDEL', meta_key, 'batch')
    local f = redis.call('HMGET', meta_key, 'tenant', 'priority', 'raw_bytes', 'tokens')
    count('returned', m.count)
    redis.call('HINCRBY', record, 'given_back', m.count - (m.keys and 0 or m.settled))
    if b[5] == 'succeeded' then count('lost_answers', m.count - (m.keys and 0 or m.settled)) end -- bought, and gone
    wait(m.lane, m.id,
      { tenant = f[1], priority = num(f[2]), count = m.count, raw_bytes = num(f[3]), tokens = num(f[4]) },
      now + (job and math.min(a.delay_max_ms or a.delay_ms, a.delay_ms * 8 ^ m.requeues) or 0), a.full)
  elseif not m.state then
    redis.call('UNLINK', key('segment', m.id), key('moved', m.id))
  elseif m.ours then
    redis.call('UNLINK', key('segment', m.id), key('moved', m.id))
    count('live_bytes', -m.bytes)
    unpromise(m.lane, m.id)
    redis.call('HSET', meta_key, 'bytes', 0)
    if m.keys then
      redis.call('HSET', meta_key, 'state', 'closed')
      redis.call('EXPIRE', meta_key, a.keep_s)
    end
  end
end
start = start + #slice
redis.call('HSET', record, 'closed_segments', start)
if #slice > 0 and start < num(b[4]) then
  redis.call('HSET', record, 'state', 'closing')
  return { 'ok', 'closing' }
end
redis.call('HSET', record, 'state', 'closed', 'closed_at', now, 'lease_until', 0)
step_over(batch, b[2], 'resolve', nil, 0)
redis.call('UNLINK', manifest, key('asked', batch), key('shares', batch))
redis.call('ZREM', T .. ':batches', batch)
redis.call('EXPIRE', record, a.keep_s)
count('closed', 1)
return { 'ok', 'closed' }
