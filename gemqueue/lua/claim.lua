-- claim: take a due step under a lease. Raises the record's fence, so that whoever held it before is stale.
-- ARGV[2] step member, ARGV[3] account, ARGV[4] lease ms
-- ok <record as flat list> | early | gone | newer (the record is of a later version of gemqueue: left alone)
local member, account, lease_ms = ARGV[2], ARGV[3], tonumber(ARGV[4])
local index = due_key(account)
local score = redis.call('ZSCORE', index, member)
if not score then return { 'gone' } end
if tonumber(score) > now then return { 'early' } end

local step, id = string.match(member, '^(%a+) (.+)$')
local record = key(step == 'pack' and 'lane' or 'batch', id)
if redis.call('EXISTS', record) == 0 then
  redis.call('ZREM', index, member)
  return { 'gone' }
end
if num(redis.call('HGET', record, 'v')) > VERSION then return { 'newer' } end
pass_when_full()
if num(redis.call('HGET', record, 'lease_until')) > 0 then redis.call('HINCRBY', record, 'crashes', 1) end
redis.call('HINCRBY', record, 'fence', 1)
redis.call('HSET', record, 'lease_until', now + lease_ms)
redis.call('ZADD', index, now + lease_ms, member)
return { 'ok', redis.call('HGETALL', record) }
