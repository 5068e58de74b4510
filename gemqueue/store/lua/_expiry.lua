-- What is finished gets a TTL.
-- takes: _core (T, account_of, count, key, now, num)

local function set_ttl(keep_s, ...)
  for _, name in ipairs({ ... }) do redis.call('EXPIRE', name, keep_s) end
end

-- How long a tenant's outcomes are kept: as its record says, else keep_s.
local function kept_for(lane, tenant, keep_s)
  local own = num(redis.call('HGET', key('tenant', account_of(lane), tenant or 'default'), 'keep_outcome_s'))
  return own > 0 and own or keep_s
end

-- Kept outcomes count against the memory limit until they expire; this forgets those that have, and says how many.
local function forget_expired()
  local gone, bytes = redis.call('ZRANGEBYSCORE', T .. ':kept', '-inf', now, 'LIMIT', 0, 100), 0
  for _, member in ipairs(gone) do bytes = bytes + num(string.match(member, ' (%d+)$')) end
  if #gone > 0 then redis.call('ZREM', T .. ':kept', unpack(gone)) end
  count('live_bytes', -bytes)
  return #gone
end

-- Whether the limit has room for so much more: before it says no, it forgets up to 10,000 that have expired.
local function has_room(size, memory_bytes_max)
  for _ = 1, 100 do
    local gone = forget_expired()
    if num(redis.call('HGET', T .. ':counts', 'live_bytes')) + size <= memory_bytes_max then return true end
    if gone == 0 then return false end
  end
  return false
end
