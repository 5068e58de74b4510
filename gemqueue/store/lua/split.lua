-- split: the last segments of a refused batch, at most 500, become a sealed batch of their own. Both are whole
-- afterwards. A segment that a rebuilt batch has taken meanwhile stays that batch's: a job has bought it.
-- ARGV[2] batch, ARGV[3] fence, ARGV[4] new batch, ARGV[5] segments to move, ARGV[6] refusals so far
-- ok | stale | state <state>
-- takes: _core (key, now, num, pass_when_full, stale)
-- takes: _batches (seal)
local record, other = key('batch', ARGV[2]), key('batch', ARGV[4])
if redis.call('EXISTS', other) == 1 then return { 'ok' } end
if stale(record, ARGV[3]) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'segments', 'pool')
if b[1] ~= 'sealed' then return { 'state', b[1] or 'gone' } end
local n = math.min(tonumber(ARGV[5]), 500, num(b[3]) - 1)
if n < 1 then return { 'state', 'one segment' } end
pass_when_full()
local moved, sums = {}, { 0, 0, 0 }
for i, id in ipairs(redis.call('LRANGE', key('manifest', ARGV[2]), -n, -1)) do
  moved[i] = id
  local m = redis.call('HMGET', key('segmeta', id), 'count', 'raw_bytes', 'tokens', 'batch')
  if m[4] == ARGV[2] then
    redis.call('HSET', key('segmeta', id), 'batch', ARGV[4])
    for j = 1, 3 do sums[j] = sums[j] + num(m[j]) end
  end
end
redis.call('LTRIM', key('manifest', ARGV[2]), 0, -n - 1)
redis.call('RPUSH', key('manifest', ARGV[4]), unpack(moved))
for j, field in ipairs({ 'prompts', 'raw_bytes', 'tokens' }) do redis.call('HINCRBY', record, field, -sums[j]) end
redis.call('HINCRBY', record, 'segments', -n)
seal(ARGV[4], b[2], { 'fence', 0, 'created_at', now, 'prompts', sums[1], 'raw_bytes', sums[2], 'tokens', sums[3],
  'segments', n, 'refusals', ARGV[6] })
if b[4] then redis.call('HSET', other, 'pool', b[4]) end
redis.call('HSET', record, 'refusals', ARGV[6])
return { 'ok' }
