-- tick: has the server's clock gone back since the last look? A replica that takes its master's place may be behind,
-- and so may a machine after a correction. What lies ahead would wait so much longer, and nothing would say why. So the
-- account's steps, leases, retries, cool-offs and holds come forward by as much, and no record says any more that
-- something has happened later than now. Of each index those that are due first, so many that the call stays short.
-- KEYS: prefix. ARGV: now, account
-- account: or a pool
-- ok <ms that it went back: 0 unless more than a second>
-- takes: _core (T, count, key, now, num, pass_when_full)
-- takes: _steps (due_key, record_of)
-- takes: _quota (lesson, remember)
local account = ARGV[2]
local SLACK_MS, DUE_MAX, LATER_MAX = 1000, 10000, 1000
local clock, server = key('clock', account), key('server', account)
local at = redis.call('HGET', clock, 'at') or redis.call('HGET', server, 'seen_at') -- 0.2.0 wrote the second alone
pass_when_full()
redis.call('HSET', clock, 'at', now)
local back_ms = num(at) - now
if back_ms <= SLACK_MS then return { 'ok', 0 } end

local function sooner(at)
  return math.max(now, at - back_ms)
end

local function advance(index, max)
  local ahead = redis.call('ZRANGEBYSCORE', index, string.format('(%d', now), '+inf', 'WITHSCORES', 'LIMIT', 0, max)
  local members = {}
  for i = 1, #ahead, 2 do
    redis.call('ZADD', index, sooner(tonumber(ahead[i + 1])), ahead[i])
    members[#members + 1] = ahead[i]
  end
  return members
end

local function clamp(record, fields)
  for i, value in ipairs(redis.call('HMGET', record, unpack(fields))) do
    if num(value) > now then redis.call('HSET', record, fields[i], now) end
  end
end

local OF_BATCH = { 'sealed_at', 'intent_at', 'fenced_at', 'accepted_at', 'ended_at', 'cancel_at', 'event_at',
  'reserved_at', 'seen_first_at', 'seen_last_at', 'looked_at', 'held_since' }

for _, member in ipairs(advance(due_key(account), DUE_MAX)) do
  local step, id = string.match(member, '^(%a+) (.+)$')
  local record = record_of(step, id)
  local lease_until = num(redis.call('HGET', record, 'lease_until'))
  if lease_until > now then redis.call('HSET', record, 'lease_until', sooner(lease_until)) end
  clamp(record, OF_BATCH)
end
for _, lane in ipairs(redis.call('SMEMBERS', T .. ':lanes')) do
  if string.sub(lane, 1, #account + 1) == account .. '/' then
    advance(key('later', lane), LATER_MAX)
    clamp(key('lane', lane), { 'oldest', 'hastened_at', 'announced_at' })
  end
end
for _, resource in ipairs(redis.call('HKEYS', key('quota', account))) do
  local q = lesson(account, resource)
  if q.held_until > now then q.held_until = sooner(q.held_until) end
  q.shrunk_at = math.min(q.shrunk_at, now)
  remember(account, resource, q)
end
local reserved = key('reserved', account)
local flat = redis.call('HGETALL', reserved)
for i = 1, #flat, 2 do
  local tokens, until_ms, model = string.match(flat[i + 1], '^(%d+) (%d+) (.+)$')
  if tonumber(until_ms) > now then
    redis.call('HSET', reserved, flat[i], tokens .. string.format(' %d ', sooner(tonumber(until_ms))) .. model)
  end
end
clamp(server, { 'noticed_at', 'seen_at' })
redis.call('HSET', clock, 'back_at', now, 'back_ms', back_ms)
count('clock_back', 1)
return { 'ok', back_ms }
