-- What is finished gets a TTL.
-- takes: _core (T, count, now, num)

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
