-- Stands before every script. KEYS[1] is the shard's tagged prefix: every key that a script touches carries it, so a
-- script works inside one Cluster slot. ARGV[1] is the time in ms under a test clock, else 0: the server's clock
-- decides. Replies are arrays whose first element is a word: 'ok', or why nothing was written.
local VERSION = 1 -- of every record's layout; a record of a later one is left alone
-- Of a batch's record, once a job of it has missed its input: whoever holds it keeps the next file to the end.
local KEEPS_INPUT = 2
local T = KEYS[1]
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function key(...)
  return T .. ':' .. table.concat({ ... }, ':')
end

local function count(name, n)
  if n ~= 0 then redis.call('HINCRBY', T .. ':counts', name, n) end
end

-- A script whose first write frees memory may go on writing on a full server. All but enqueue and replay do: what is
-- under way must come to its end, and that is what frees memory.
local function pass_when_full()
  redis.call('UNLINK', T .. ':nothing')
end

local function num(value)
  return tonumber(value or 0) or 0
end

-- Whether a list of words, with blanks between them, has this one.
local function has_word(list, word)
  return string.find(' ' .. list .. ' ', ' ' .. word .. ' ', 1, true) ~= nil
end

local function account_of(lane)
  return string.match(lane, '^[^/]+')
end

local function due_key(account)
  return key('due', account)
end

local RECORDS = { pack = 'lane', rescue = 'rescue' } -- of the steps that are not a batch's

local function record_of(step, id)
  return key(RECORDS[step] or 'batch', id)
end

-- 'stale' unless the record still carries the caller's fence.
local function stale(record, fence)
  return redis.call('HGET', record, 'fence') ~= fence
end

-- Bitmaps: bit i is bit 7-(i%8) of byte i/8, as SETBIT has it.
local function overlaps(a, b)
  for i = 1, math.min(#a, #b) do
    if bit.band(string.byte(a, i), string.byte(b, i)) ~= 0 then return true end
  end
  return false
end

local function merged(a, b)
  if a == '' then return b end
  if #a < #b then a, b = b, a end
  local out = {}
  for i = 1, #b do out[i] = string.char(bit.bor(string.byte(a, i), string.byte(b, i))) end
  return table.concat(out) .. string.sub(a, #b + 1)
end

local function has_bit(map, index)
  local byte = string.byte(map, math.floor(index / 8) + 1)
  return byte ~= nil and bit.band(byte, bit.lshift(1, 7 - index % 8)) ~= 0
end

-- A job of the batch has failed for want of its input. Where that had been deleted, the account has proven that its
-- jobs need it.
local function missed_input(record, account, proven)
  redis.call('HSET', record, 'v', KEEPS_INPUT)
  redis.call('HINCRBY', record, 'inputs_missed', 1)
  if proven then redis.call('HSETNX', key('account', account), 'input_needed_at', now) end
  count('inputs_missed', 1)
end

local function set_ttl(keep_s, ...)
  for _, name in ipairs({ ... }) do redis.call('EXPIRE', name, keep_s) end
end

-- Kept outcomes count against the memory limit until they expire; this forgets those that have.
local function forget_expired()
  local gone = redis.call('ZRANGEBYSCORE', T .. ':kept', '-inf', now, 'LIMIT', 0, 100)
  for _, member in ipairs(gone) do
    redis.call('ZREM', T .. ':kept', member)
    count('live_bytes', -num(string.match(member, ' (%d+)$')))
  end
end

-- A run's record lives as long as a segment of it, and then as long as the outcomes.
local function leave_run(account, name, keep_s)
  local run = key('run', account, name)
  if redis.call('EXISTS', run) == 1 and redis.call('HINCRBY', run, 'open', -1) <= 0 then
    set_ttl(keep_s, run, key('runlist', account, name))
  end
end

-- Nobody need watch over this segment's deadline any more; with the last one the step goes, unless somebody holds it.
local function unpromise(lane, id)
  local index = key('deadlines', lane)
  if redis.call('ZREM', index, id) == 1 and redis.call('EXISTS', index) == 0
    and num(redis.call('HGET', key('rescue', lane), 'lease_until')) <= now then
    redis.call('ZREM', due_key(account_of(lane)), 'rescue ' .. lane)
  end
end

-- An origin's last bit is set: TTLs on everything that it leaves behind, and its body goes.
local function finish(id, meta_key, keep_s)
  local meta = redis.call('HMGET', meta_key, 'bytes', 'outcome_bytes', 'run', 'lane')
  redis.call('UNLINK', key('segment', id), key('moved', id))
  count('live_bytes', -num(meta[1]))
  redis.call('HSET', meta_key, 'state', 'closed', 'bytes', 0, 'closed_at', now)
  local packed = redis.call('GET', key('names', id))
  if packed then
    for _, name in ipairs(cmsgpack.unpack(packed)) do redis.call('EXPIRE', name, keep_s) end
  end
  set_ttl(keep_s, meta_key, key('settled', id), key('outcomes', id), key('names', id), key('watch', id))
  redis.call('ZADD', T .. ':kept', now + keep_s * 1000, id .. ' ' .. num(meta[2]))
  unpromise(meta[4], id)
  if meta[3] then leave_run(account_of(meta[4]), meta[3], keep_s) end
end

-- Notices go to the producer and to whoever registered: one entry per inbox and call.
local function notify(notices)
  for inbox, ids in pairs(notices) do
    redis.call('XADD', inbox, 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', 's', table.concat(ids, ' '))
  end
end

local function notice(notices, id, producer, watched)
  local function add(who)
    local inbox = key('inbox', who)
    notices[inbox] = notices[inbox] or {}
    table.insert(notices[inbox], id)
  end
  if producer and producer ~= '' then add(producer) end
  if watched then
    for _, who in ipairs(redis.call('SMEMBERS', key('watch', id))) do
      if who ~= producer then add(who) end
    end
  end
end

-- Outcomes of one origin land: bits, blob, counts, notice. The caller has checked that none of the bits is set.
local function land(id, map, n, blob, keep_s, notices)
  local meta_key = key('segmeta', id)
  local meta = redis.call('HMGET', meta_key, 'count', 'producer', 'watched')
  redis.call('SET', key('settled', id), map)
  redis.call('RPUSH', key('outcomes', id), blob)
  count('live_bytes', #blob)
  redis.call('HINCRBY', meta_key, 'outcome_bytes', #blob)
  local settled = redis.call('HINCRBY', meta_key, 'settled', n)
  notice(notices, id, meta[2], meta[3])
  if settled >= num(meta[1]) then finish(id, meta_key, keep_s) end
end

local function lane_is_full(lane_key, full)
  local lane = redis.call('HMGET', lane_key, 'prompts', 'raw_bytes', 'tokens', 'ceiling')
  local prompts_max = full.prompts
  if num(lane[4]) > 0 then prompts_max = math.min(prompts_max, num(lane[4])) end
  return num(lane[1]) >= prompts_max or num(lane[2]) >= full.raw_bytes or num(lane[3]) >= full.tokens
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

-- Webhooks prove healthy, lane by lane, by the ends in a row that they told of before a look found them.
local JOB_KEEP_S = 3600 -- how long after its end a late event still finds a job's batch
local function prove(lane_key, announced)
  if announced then redis.call('HINCRBY', lane_key, 'announced', 1)
  else redis.call('HDEL', lane_key, 'announced') end
end

-- A segment whose prompts are wanted by a time. Where a policy may send them another way, the rescue step looks at it
-- now, for which it gets look_ms before the segment may be packed, and then when it has said so.
local function promise(lane, id, deadline_at, look_ms)
  if num(deadline_at) == 0 then return end
  redis.call('HSET', key('segmeta', id), 'deadline_at', deadline_at)
  if num(look_ms) == 0 then return end
  redis.call('HSETNX', key('rescue', lane), 'v', VERSION)
  redis.call('ZADD', key('deadlines', lane), now, id)
  want(key('rescue', lane), account_of(lane), 'rescue ' .. lane, now)
end

-- Scores hold a priority and, below it, a time in ms (until 2109) or a number of prompts: highest priority first.
local CLASS = 4398046511104

local function scored(class, rest)
  return string.format('%.3f', class * CLASS + rest)
end

local function class_of(score)
  return math.floor(tonumber(score) / CLASS)
end

-- A tenant's place among those that have something pending: by the priority of what it has first, then by how much it
-- has passed (prompts over weight). Whoever joins a priority starts at the least of those present, so that nobody saves
-- up turns and nobody waits until a newcomer has caught up.
local function place(lane, tenant, passed)
  local tenants, first = key('tenants', lane), redis.call('ZRANGE', key('pending', lane, tenant), 0, 0, 'WITHSCORES')
  if not first[1] then
    redis.call('ZREM', tenants, tenant)
    return
  end
  local class, old = class_of(first[2]), redis.call('ZSCORE', tenants, tenant)
  local stays = old and class_of(old) == class
  if stays and not passed then return end
  passed = passed or (old and tonumber(old) % CLASS) or 0
  if not stays then
    local low, high = string.format('%.0f', class * CLASS), string.format('(%.0f', (class + 1) * CLASS)
    local least = redis.call('ZRANGEBYSCORE', tenants, low, high, 'WITHSCORES', 'LIMIT', 0, 1)
    if least[1] then passed = math.max(passed, tonumber(least[2]) - class * CLASS) end
  end
  redis.call('ZADD', tenants, scored(class, passed), tenant)
end

-- Lines of a segment went on into another one: told to whoever asks about a prompt, and bounded, for nothing rests on
-- it.
local function went_to(segment, id)
  local meta_key = key('segmeta', segment)
  local m = redis.call('HMGET', meta_key, 'state', 'went')
  if m[1] and #(m[2] or '') < 2000 then redis.call('HSET', meta_key, 'went', m[2] and (m[2] .. ' ' .. id) or id) end
end

local PATIENCE_MS = 86400000 -- by when prompts without a deadline are taken to be wanted: what the provider aims at

-- A segment is ready to be packed: within its priority, who is wanted first goes first. The lane's counters are what is
-- pending.
local function pend(lane, id, meta)
  local lane_key, wanted_at = key('lane', lane), num(redis.call('HGET', key('segmeta', id), 'deadline_at'))
  if wanted_at == 0 then wanted_at = now + PATIENCE_MS end
  redis.call('ZADD', key('pending', lane, meta.tenant), scored(-meta.priority, wanted_at), id)
  place(lane, meta.tenant)
  redis.call('HSETNX', lane_key, 'oldest', now)
  redis.call('HINCRBY', lane_key, 'segments', 1)
  redis.call('HINCRBY', lane_key, 'prompts', meta.count)
  redis.call('HINCRBY', lane_key, 'raw_bytes', meta.raw_bytes)
  redis.call('HINCRBY', lane_key, 'tokens', meta.tokens)
end

-- When a lane that is not full is due: when its oldest segment has lingered, or at once if it was hastened since.
local function lingered(lane_key, full)
  local lane = redis.call('HMGET', lane_key, 'oldest', 'hastened_at')
  if num(lane[1]) <= num(lane[2]) then return now end
  return num(lane[1]) + full.linger_ms
end

-- A segment waits to be packed: now, or from ready_at on.
local function wait(lane, id, meta, ready_at, full)
  local lane_key, account = key('lane', lane), account_of(lane)
  redis.call('SADD', T .. ':lanes', lane)
  redis.call('HSETNX', lane_key, 'v', VERSION)
  if ready_at > now then
    redis.call('ZADD', key('later', lane), ready_at, id)
    want(lane_key, account, 'pack ' .. lane, ready_at)
    return
  end
  pend(lane, id, meta)
  local at = now
  if not lane_is_full(lane_key, full) then at = lingered(lane_key, full) end
  want(lane_key, account, 'pack ' .. lane, at)
end

-- A sealed batch stands in the due index and in the list of open batches.
local function seal(id, lane, fields)
  local account = account_of(lane)
  redis.call('HSET', key('batch', id), 'v', VERSION, 'state', 'sealed', 'lane', lane, 'sealed_at', now,
    'lease_until', 0, unpack(fields))
  redis.call('ZADD', due_key(account), now, 'submit ' .. id)
  ring(account)
  redis.call('ZADD', T .. ':batches', now, id)
  count('sealed', 1)
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

-- The server that the records were last known whole on is another than this one: it was started again, or a replica
-- took its place. Noticed once per server: from then on every claim gets a fence above all that were ever given,
-- because those that were given last may have been lost, and must not be given twice. An account without a record is
-- not watched.
local function changed(account)
  local server = key('server', account)
  local known = redis.call('HMGET', server, 'run_id', 'noticed')
  if not known[1] then return false end
  local info = redis.pcall('INFO', 'server') -- refused to some users of managed servers: then nothing is noticed
  local id = type(info) == 'string' and string.match(info, 'run_id:(%w+)')
  if not id or id == known[1] then return false end
  if id ~= known[2] then
    redis.call('HSET', server, 'noticed', id, 'noticed_at', now, 'fence_floor', now,
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

-- Dead letters count against the memory limit, and are bounded by bytes and by number: the oldest go. One of 0.1.0
-- carries no size, and was never counted.
local DEAD_MAX = 100000

local function unbury(id, fields)
  local size = 0
  for i = 1, #fields, 2 do
    if fields[i] == 'size' then size = num(fields[i + 1]) end
  end
  redis.call('XDEL', T .. ':dead', id)
  count('dead_bytes', -size)
  count('live_bytes', -size)
end

local function bury(d, bytes_max)
  local size = #d[1] + #d[2] + #d[4] + #d[5] + 200
  local m = redis.call('HMGET', key('segmeta', string.match(d[1], '^[^.]+')), 'tenant', 'priority', 'run')
  redis.call('XADD', T .. ':dead', '*', 'key', d[1], 'lane', d[2], 'kind', d[3], 'message', d[4], 'body', d[5],
    'size', size,
    'tenant', m[1] or 'default', 'priority', m[2] or 0, 'run', m[3] or '')
  count('dead_bytes', size)
  count('live_bytes', size)
  for _ = 1, 16 do
    local over = redis.call('XLEN', T .. ':dead') > DEAD_MAX
      or num(redis.call('HGET', T .. ':counts', 'dead_bytes')) > bytes_max
    if not over then return end
    local oldest = redis.call('XRANGE', T .. ':dead', '-', '+', 'COUNT', 1)[1]
    unbury(oldest[1], oldest[2])
  end
end
