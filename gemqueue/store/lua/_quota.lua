-- The quota ledger. `reserved:<account>` has an entry for each batch that has a job or is about to create one:
-- "<tokens> <until> <model>", with until = 0 while it counts as open, else the end of its cool-off. What is in use is
-- their sum, so there is no counter that could drift. `quota:<account>` holds what refusals have taught of a resource
-- ('jobs', or 'tokens/<model>'), and is there only as long as that differs from the configured limit; and under 'spend'
-- that the provider refuses for want of money, until a create succeeds.
-- takes: _core (account_of, count, key, now, num)
-- takes: _steps (want)
-- takes: _server (paused)
-- takes: _line (leave_line, line_up, model_of)

local function lesson(account, resource)
  local packed = redis.call('HGET', key('quota', account), resource)
  local readable, q = pcall(cmsgpack.unpack, packed or '')
  return packed and readable and q -- a malformed one has taught nothing
end

local function remember(account, resource, q)
  if q then redis.call('HSET', key('quota', account), resource, cmsgpack.pack(q))
  else redis.call('HDEL', key('quota', account), resource) end
end

-- What the account's other batches use, and when the first cool-off ends. Cool-offs that are over leave the ledger.
local function usage(account, model, except)
  local reserved, used = key('reserved', account), { jobs = 0, tokens = 0, model_jobs = 0 }
  local flat = redis.call('HGETALL', reserved)
  for i = 1, #flat, 2 do
    local tokens, until_ms, of = string.match(flat[i + 1], '^(%d+) (%d+) (.+)$')
    until_ms = tonumber(until_ms) -- none in a malformed entry, which stands for nothing
    if until_ms and until_ms > 0 and until_ms <= now then
      redis.call('HDEL', reserved, flat[i])
    elseif until_ms and flat[i] ~= except then
      used.jobs = used.jobs + 1
      if of == model then
        used.tokens = used.tokens + tonumber(tokens)
        used.model_jobs = used.model_jobs + 1
      end
      if until_ms > 0 then used.cooled_at = math.min(used.cooled_at or until_ms, until_ms) end
    end
  end
  return used
end

-- Bytes that the input files of the account's other open jobs take at the provider. They are known from the batch's
-- record: what it was packed of, until the file is deleted.
local function stored_bytes(account, except)
  local bytes = 0
  for _, id in ipairs(redis.call('HKEYS', key('reserved', account))) do
    local b = id ~= except and redis.pcall('HMGET', key('batch', id), 'state', 'raw_bytes', 'input_file') or {}
    if b[1] == 'sealed' or b[1] == 'submitting' or (b[1] == 'submitted' and b[3] ~= '') then
      bytes = bytes + num(b[2])
    end
  end
  return bytes
end

-- Entries of batches that neither have a job nor are about to, because their record was lost or changed by hand.
local function reconcile(account)
  local reserved = key('reserved', account)
  local flat, dropped = redis.call('HGETALL', reserved), 0
  for i = 1, math.min(#flat, 1000), 2 do
    if string.match(flat[i + 1], '^%d+ 0 ') and num(redis.pcall('HGET', key('batch', flat[i]), 'reserved')) == 0 then
      dropped = dropped + redis.call('HDEL', reserved, flat[i])
    end
  end
  count('unreserved', dropped)
end

-- A batch waits for a resource.
local function queue_up(batch, account, resource)
  redis.call('HSET', key('batch', batch), 'held_for', resource)
  line_up(batch, account)
end

-- Whether a batch cannot be claimed, because the pool that it was packed from waits for another account: it keeps its
-- place in the line, and nobody waits behind it.
local pools_paused = {}
local function waits_for_pool(pool)
  if not pool then return false end
  if pools_paused[pool] == nil then pools_paused[pool] = paused(pool) end
  return pools_paused[pool]
end

-- The first that waits for each resource, found in one pass, before a batch that asks. What has moved on leaves the
-- line.
local function first_waiting(account, before)
  local first = {}
  for _, id in ipairs(redis.call('ZRANGE', key('waiting', account), 0, 199)) do
    if id == before then break end
    local b = redis.call('HMGET', key('batch', id), 'state', 'held_for', 'pool', 'lane')
    if b[1] ~= 'sealed' and b[1] ~= 'submitting' then leave_line(id, account, b[4] and model_of(b[4]))
    elseif b[2] and not first[b[2]] and not waits_for_pool(b[3]) then first[b[2]] = id end
  end
  return first
end

-- There is room: the first in line for each resource tries now, and wakes the next when it has been let in.
local function wake(account, model)
  local first = first_waiting(account)
  for _, resource in ipairs({ 'spend', 'tokens/' .. model, 'model_jobs/' .. model, 'jobs', 'stored_bytes' }) do
    local id = first[resource]
    if id and redis.call('HGET', key('batch', id), 'state') == 'sealed' then
      want(key('batch', id), account, 'submit ' .. id, now)
    end
  end
end

-- A batch gives its reservation back. With a cool-off, and while refusals have shrunk a ceiling, it goes on counting
-- for so long: the provider frees late.
local function unreserve(batch, lane, cool_ms)
  local account = account_of(lane)
  local reserved, record = key('reserved', account), key('batch', batch)
  local entry = redis.call('HGET', reserved, batch)
  if not entry then return end
  local lessons = redis.call('HLEN', key('quota', account)) - redis.call('HEXISTS', key('quota', account), 'spend')
  if cool_ms > 0 and lessons > 0 then
    local tokens, model = string.match(entry, '^(%d+) %d+ (.+)$')
    redis.call('HSET', reserved, batch, tokens .. ' ' .. string.format('%d', now + cool_ms) .. ' ' .. model)
  else
    redis.call('HDEL', reserved, batch)
  end
  redis.call('HSET', record, 'reserved', 0)
  if redis.call('HGET', record, 'state') == 'sealed' then line_up(batch, account) end
end

-- A job was accepted: shrunken ceilings grow, quickly to what was in use before, beyond that the faster the longer
-- nothing was refused. At the configured limit, or when it has long been twice what is in use, a correction has served
-- its time.
local function grow(batch, lane)
  local account, model = account_of(lane), model_of(lane)
  if redis.call('EXISTS', key('quota', account)) == 0 then return end
  local b = redis.call('HMGET', key('batch', batch), 'reserved', 'reserved_at')
  local spend = lesson(account, 'spend')
  if spend and num(b[2]) > spend.shrunk_at then remember(account, 'spend', nil) end
  local used = usage(account, model)
  for what, amount in pairs({ jobs = 1, tokens = num(b[1]) }) do
    local resource = what == 'jobs' and what or 'tokens/' .. model
    local q = lesson(account, resource)
    if q and num(b[2]) > q.shrunk_at then
      q.refusals, q.held_until, q.probe = 0, 0, ''
      q.since = q.since + amount
      q.proven = math.max(q.proven, used[what])
      local share = math.min(0.5, 0.05 + 0.1 * q.since / math.max(1, q.ceiling))
      if q.ceiling < 0.9 * q.proven then share = 0.9 end
      q.ceiling = q.ceiling + amount * share
      if q.ceiling >= q.max or (q.since >= 4 * q.base and q.ceiling >= 2 * used[what]) then q = nil end
      remember(account, resource, q)
    end
  end
end

-- A job that is there counts, whether there was room for it or not: it was adopted, or its record is made anew.
local function book(batch, lane)
  local record, account = key('batch', batch), account_of(lane)
  local reserved = key('reserved', account)
  if string.match(redis.call('HGET', reserved, batch) or '', '^%d+ 0 ') then return end
  local ratio = tonumber(redis.call('HGET', key('lane', lane), 'token_ratio') or 1)
  local amount = math.max(1, math.ceil(num(redis.call('HGET', record, 'tokens')) * ratio))
  redis.call('HSET', reserved, batch, string.format('%d 0 ', amount) .. model_of(lane))
  redis.call('HSET', record, 'reserved', amount, 'reserved_at', 0, 'held_for', '')
  leave_line(batch, account, model_of(lane))
end
