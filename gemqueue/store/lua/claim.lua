-- claim: take a due step under a lease. Raises the record's fence, so that whoever held it before is stale.
-- A step that is held moves behind what else is due: however many are held, a look at the first of the index finds the
-- rest.
-- KEYS: prefix. ARGV: now, member, account, lease_ms, take_held, known
-- take_held: 'held' to claim even what the pause after a change of the server holds, and what nobody has though it is
-- not due; else ''. known: msgpack {home, run_id, seen_at, fence}, what the worker remembers of the server
-- ok <record as flat list> <home> <now> | early | gone | newer (the record is of a later version of gemqueue: left
-- alone) | held (pack and submit wait until the provider's jobs have been compared with the records, or a person has
-- said how to go on) | unreadable <why> (the record is malformed: looked at again after a lease)
-- takes: _core (BELIEVES, SEALED, VERSION, key, now, num, pass_when_full)
-- takes: _steps (RECORDS, due_key, record_of)
-- takes: _server (paused, recall)
-- takes: _quota (unreserve)
local member, account, lease_ms, take_held, known = unpack(ARGV, 2)
local HELD_MS = 1000 -- held steps come round together, once in so long
lease_ms = tonumber(lease_ms)
local index = due_key(account)
local score = redis.call('ZSCORE', index, member)
if not score then return { 'gone' } end
local step, id = string.match(member, '^(%a+) (.+)$')
local record = record_of(step, id)
local numbers = { 'lease_until', 'fence', 'crashes', 'v' }
local read = redis.pcall('HMGET', record, unpack(numbers))
local lease_until = num(read[1])
if tonumber(score) > now and (take_held ~= 'held' or lease_until > now) then return { 'early' } end
if redis.call('EXISTS', record) == 0 then
  redis.call('ZREM', index, member)
  return { 'gone' }
end
local broken = read.err and 'its key holds another type of value'
for i, name in ipairs(numbers) do
  if read[i] and not string.match(read[i], '^%d+$') then broken = name .. ' is no number' end
end
if broken then
  pass_when_full()
  redis.call('ZADD', index, 'XX', now + lease_ms, member)
  return { 'unreadable', broken }
end
local v = num(read[4])
if v ~= SEALED and v > (RECORDS[step] and VERSION or BELIEVES) then return { 'newer' } end
pass_when_full()
local knows = cmsgpack.unpack(known)
local nameless = recall(account, knows)
local held, floor = paused(account, knows.fence)
held = held or nameless
local pool = step == 'submit' and redis.call('HGET', record, 'pool')
if pool then held = paused(pool, knows.fence) or held end
if held and (step == 'pack' or step == 'submit') and take_held ~= 'held' then
  local b = redis.call('HMGET', record, 'state', 'lane')
  if step == 'submit' and b[1] == 'sealed' then unreserve(id, b[2], 0) end -- who held it died: nobody waits for it
  redis.call('ZADD', index, (math.floor(now / HELD_MS) + 1) * HELD_MS, member)
  return { 'held' }
end
if lease_until > 0 then redis.call('HINCRBY', record, 'crashes', 1) end
if floor > 0 then floor = math.max(floor, knows.fence + 1) end -- what it remembers may have been lost here
if redis.call('HINCRBY', record, 'fence', 1) < floor then
  redis.call('HSET', record, 'fence', string.format('%d', floor))
end
redis.call('HSET', record, 'lease_until', now + lease_ms)
redis.call('ZADD', index, now + lease_ms, member)
return { 'ok', redis.call('HGETALL', record), redis.call('HGET', key('server', account), 'home') or '', now }
