-- The server that the records are on.
-- takes: _core (count, key, now, num)

-- The server that the records were last known whole on is another than this one: it was started again, or a replica
-- took its place. Noticed once per server: from then on every claim gets a fence above all that were ever given,
-- because those that were given last may have been lost, and must not be given twice. The time is above them all, since
-- no record is claimed once a millisecond. Where the new server's clock is behind, 2^20 above the last floor is: never
-- otherwise, because a floor ahead of the clock that is lost again would be followed by a lower one. An account without
-- a record is not watched.
local function floor_above(server)
  local last = num(redis.call('HGET', server, 'fence_floor'))
  return string.format('%d', now > last and now or last + 1048576)
end

local function changed(account)
  local server = key('server', account)
  local known = redis.call('HMGET', server, 'run_id', 'noticed')
  if not known[1] then return false end
  local info = redis.pcall('INFO', 'server') -- refused to some users of managed servers: then nothing is noticed
  local id = type(info) == 'string' and string.match(info, 'run_id:(%w+)')
  if not id or id == known[1] then return false end
  if id ~= known[2] then
    redis.call('HSET', server, 'noticed', id, 'noticed_at', now, 'fence_floor', floor_above(server),
      'held_reason', 'reconciling after a server restart')
    count('server_changes', 1)
  end
  return true
end

-- Whether packing and submitting wait, and what fences must be above. A pool waits for each of its accounts, because a
-- job that only the records of one have lost may hold what waits in the pool. After so long nothing is left of a job
-- (protocol sections 8.5 and 10), so an account that had no worker since is not waited for.
local POOL_KEEP_MS = 360000000
local function paused(account)
  local held, floor = changed(account), num(redis.call('HGET', key('server', account), 'fence_floor'))
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', key('pool', account), now - POOL_KEEP_MS, '+inf')) do
    held = changed(one) or held
    floor = math.max(floor, num(redis.call('HGET', key('server', one), 'fence_floor')))
  end
  return held, floor
end
