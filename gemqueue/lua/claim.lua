-- claim: take a due step under a lease. Raises the record's fence, so that whoever held it before is stale.
-- ARGV[2] step member, ARGV[3] account, ARGV[4] lease ms, ARGV[5] 'held' to claim even what the pause after a change of the
-- server holds
-- ok <record as flat list> <home> | early | gone | newer (the record is of a later version of gemqueue: left alone)
--    | held (pack and submit wait until the provider's jobs have been compared with the records)
local member, account, lease_ms = ARGV[2], ARGV[3], tonumber(ARGV[4])
local index = due_key(account)
local score = redis.call('ZSCORE', index, member)
if not score then return { 'gone' } end
if tonumber(score) > now then return { 'early' } end

local step, id = string.match(member, '^(%a+) (.+)$')
local record = record_of(step, id)
if redis.call('EXISTS', record) == 0 then
  redis.call('ZREM', index, member)
  return { 'gone' }
end
if num(redis.call('HGET', record, 'v')) > VERSION then return { 'newer' } end
pass_when_full()
local held, floor = paused(account)
local pool = step == 'submit' and redis.call('HGET', record, 'pool')
if pool then held = paused(pool) or held end
if held and (step == 'pack' or step == 'submit') and ARGV[5] ~= 'held' then return { 'held' } end
if num(redis.call('HGET', record, 'lease_until')) > 0 then redis.call('HINCRBY', record, 'crashes', 1) end
if redis.call('HINCRBY', record, 'fence', 1) < floor then redis.call('HSET', record, 'fence', string.format('%d', floor)) end
redis.call('HSET', record, 'lease_until', now + lease_ms)
redis.call('ZADD', index, now + lease_ms, member)
return { 'ok', redis.call('HGETALL', record), redis.call('HGET', key('server', account), 'home') or '' }
