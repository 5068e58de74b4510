-- split: the last segments of a refused batch, at most 500, become a sealed batch of their own. Both are whole
-- afterwards. A segment that a rebuilt batch has taken meanwhile stays that batch's: a job has bought it.
-- KEYS: prefix. ARGV: now, batch, fence, new_batch, segments, refusals
-- segments: how many to move. refusals: so far
-- ok | stale | state <state>
-- takes: _core (account_of, key, now, num, pass_when_full, raise_v, stale)
-- takes: _batches (seal)
-- takes: _tenants (enter_job, share)
local batch, fence, new_batch, segments, refusals = unpack(ARGV, 2)
local record, other = key('batch', batch), key('batch', new_batch)
if redis.call('EXISTS', other) == 1 then return { 'ok' } end
if stale(record, fence) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lane', 'segments', 'pool', 'priority', 'limited', 'v')
if b[1] ~= 'sealed' then return { 'state', b[1] or 'gone' } end
local n = math.min(tonumber(segments), 500, num(b[3]) - 1)
if n < 1 then return { 'state', 'one segment' } end
pass_when_full()
local moved, sums = {}, { 0, 0, 0 }
for i, id in ipairs(redis.call('LRANGE', key('manifest', batch), -n, -1)) do
  moved[i] = id
  local m = redis.call('HMGET', key('segmeta', id), 'count', 'raw_bytes', 'tokens', 'batch', 'tenant')
  if m[4] == batch then
    redis.call('HSET', key('segmeta', id), 'batch', new_batch)
    for j = 1, 3 do sums[j] = sums[j] + num(m[j]) end
    share(batch, m[5] or 'default', -num(m[1]))
    share(new_batch, m[5] or 'default', num(m[1]))
  end
end
redis.call('LTRIM', key('manifest', batch), 0, -n - 1)
redis.call('RPUSH', key('manifest', new_batch), unpack(moved))
for j, field in ipairs({ 'prompts', 'raw_bytes', 'tokens' }) do redis.call('HINCRBY', record, field, -sums[j]) end
redis.call('HINCRBY', record, 'segments', -n)
seal(new_batch, b[2], { 'fence', 0, 'created_at', now, 'prompts', sums[1], 'raw_bytes', sums[2], 'tokens', sums[3],
  'segments', n, 'refusals', refusals, 'priority', num(b[5]),
  'limited', b[6] or '' })
for tenant in string.gmatch(b[6] or '', '%S+') do enter_job(new_batch, b[4] or account_of(b[2]), tenant) end
raise_v(other, b[7])
if b[4] then redis.call('HSET', other, 'pool', b[4]) end
redis.call('HSET', record, 'refusals', refusals)
return { 'ok' }
