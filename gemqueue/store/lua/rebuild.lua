-- rebuild: a job at the provider belongs to a batch whose record is lost. The segments that the job holds are taken
-- from wherever they wait, at most 500 a call, and the last call makes the record that the tracker goes on with. A
-- segment that is in a batch with a job, or in one that somebody holds, is left there. It may wait in another lane than
-- the batch's: a pool's. A batch that it is taken from counts it no more, though its manifest still names it. Asking
-- again changes nothing.
-- KEYS: prefix. ARGV: now, batch, account, job, each (segment)
-- job: msgpack {lane, job, input_file, token, created_at_ms, by_key, last}
-- ok <how many were taken> | known <state> (there is a record) | busy <batch> (somebody holds a batch that has one of
-- them)
-- takes: _core (T, VERSION, account_of, count, key, now, num, pass_when_full, raise_v)
-- takes: _groups (groups)
-- takes: _steps (due_key)
-- takes: _lanes (unpend)
-- takes: _tenants (share)
-- takes: _quota (book)
local batch, account, job = unpack(ARGV, 2, 4)
local record, a = key('batch', batch), cmsgpack.unpack(job)
local state = redis.call('HGET', record, 'state')
if state and state ~= 'packing' then return { 'known', state } end

local takes = {}
for segment in groups(5, 1) do
  local m = redis.call('HMGET', key('segmeta', segment), 'state', 'batch', 'count', 'raw_bytes', 'tokens', 'tenant',
    'lane')
  if m[1] == 'live' and m[2] ~= batch then
    local other = m[2] and redis.call('HMGET', key('batch', m[2]), 'state', 'lease_until') or {}
    if other[1] == 'sealed' and num(other[2]) > now then return { 'busy', m[2] } end
    if not other[1] or other[1] == 'sealed' or other[1] == 'packing' then takes[#takes + 1] = { segment, m } end
  end
end

pass_when_full()
redis.call('HSETNX', record, 'created_at', now)
raise_v(record, VERSION)
redis.call('HSET', record, 'state', 'packing', 'lane', a.lane)
redis.call('HSETNX', record, 'fence', 0)
local PARTS = { 'prompts', 'raw_bytes', 'tokens' }
local function let_go(lane)
  if redis.call('HGET', key('lane', lane), 'batch') == batch then redis.call('HDEL', key('lane', lane), 'batch') end
end
let_go(a.lane)
for _, take in ipairs(takes) do
  local segment, m = take[1], take[2]
  local tenant, lane = m[6] or 'default', m[7]
  let_go(lane)
  raise_v(record, redis.call('HGET', key('lane', lane), 'v'))
  if account_of(lane) ~= account then redis.call('HSET', record, 'pool', account_of(lane)) end
  unpend(lane, tenant, segment, { num(m[3]), num(m[4]), num(m[5]), 1 })
  share(batch, tenant, num(m[3]))
  redis.call('ZREM', key('later', lane), segment)
  redis.call('HSET', key('segmeta', segment), 'batch', batch)
  redis.call('RPUSH', key('manifest', batch), segment)
  local other = m[2] and key('batch', m[2])
  if other and redis.call('EXISTS', other) == 0 then other = nil end
  if other then share(m[2], tenant, -num(m[3])) end
  for j, field in ipairs(PARTS) do
    redis.call('HINCRBY', record, field, num(m[j + 2]))
    if other then redis.call('HINCRBY', other, field, -num(m[j + 2])) end
  end
end
if not a.last then return { 'ok', #takes } end
redis.call('HSET', record, 'state', 'submitted', 'job', a.job, 'input_file', a.input_file, 'intent_token', a.token,
  'intent_at', a.created_at_ms > 0 and a.created_at_ms or now, 'by_key', a.by_key, 'accepted_at', now, 'lease_until', 0,
  'segments', redis.call('LLEN', key('manifest', batch)))
book(batch, a.lane)
redis.call('SET', key('job', a.job), batch)
redis.call('ZADD', T .. ':batches', now, batch)
redis.call('ZADD', due_key(account), now, 'track ' .. batch)
count('rebuilt', 1)
count('adopted', 1)
return { 'ok', #takes }
