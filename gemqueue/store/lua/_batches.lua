-- Batches and their jobs.
-- takes: _core (KEEPS_INPUT, T, VERSION, account_of, count, key, now, raise_v)
-- takes: _steps (due_key, ring)
-- takes: _line (line_up)

-- A sealed batch stands in the due index, in the list of open batches and, if it becomes a job, in the line for room.
local function seal(id, lane, fields)
  local account = account_of(lane)
  raise_v(key('batch', id), VERSION)
  redis.call('HSET', key('batch', id), 'state', 'sealed', 'lane', lane, 'sealed_at', now,
    'lease_until', 0, unpack(fields))
  redis.call('ZADD', due_key(account), now, 'submit ' .. id)
  ring(account)
  redis.call('ZADD', T .. ':batches', now, id)
  if string.match(lane, '/batch$') then line_up(id, account) end
  count('sealed', 1)
end

-- A job of the batch has failed for want of its input. Where that had been deleted, the account has proven that its
-- jobs need it.
local function missed_input(record, account, proven)
  raise_v(record, KEEPS_INPUT)
  redis.call('HINCRBY', record, 'inputs_missed', 1)
  if proven then redis.call('HSETNX', key('account', account), 'input_needed_at', now) end
  count('inputs_missed', 1)
end

-- Webhooks prove healthy, lane by lane, by the ends in a row that they told of before a poll found them.
local JOB_KEEP_S = 3600 -- how long after its end a late event still finds a job's batch
local function prove(lane_key, announced)
  if announced then redis.call('HINCRBY', lane_key, 'announced', 1)
  else redis.call('HDEL', lane_key, 'announced') end
end
