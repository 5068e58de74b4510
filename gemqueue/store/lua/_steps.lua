-- Steps: what is due, in whose index, and who is told of it.
-- takes: _core (account_of, key, now, num)

local function due_key(account)
  return key('due', account)
end

local RECORDS = { pack = 'lane', rescue = 'rescue' } -- of the steps that are not a batch's

local function record_of(step, id)
  return key(RECORDS[step] or 'batch', id)
end

-- Whoever sweeps this account's steps may look at once. A hint: it may be lost, and a server's ACL may refuse it.
local function ring(account)
  redis.pcall('PUBLISH', key('bell', account), '')
end

-- A step is wanted at a time: never later than it already is, and never under a lease (the holder looks again instead).
local function want(record, account, member, at)
  if num(redis.call('HGET', record, 'lease_until')) > now then
    redis.call('HSET', record, 'look_again', 1)
  elseif redis.call('ZADD', due_key(account), 'LT', 'CH', at, member) == 1 then
    ring(account)
  end
end

local function step_over(batch, lane, from, to, delay_ms)
  local account = account_of(lane)
  local index = due_key(account)
  if from then redis.call('ZREM', index, from .. ' ' .. batch) end
  if to then
    redis.call('ZADD', index, now + delay_ms, to .. ' ' .. batch)
    ring(account)
  end
end
