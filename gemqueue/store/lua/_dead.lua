-- Dead letters count against the memory limit, and are bounded by bytes and by number: the oldest go. One of 0.1.0
-- carries no size, and was never counted.
-- takes: _core (T, count, key, num)

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
