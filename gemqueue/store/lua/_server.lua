-- The server that the records are on.
-- takes: _core (count, has_word, key, now, num)

-- The server that the records were last known whole on is another than this one: it was started again, or a replica
-- took its place. Noticed once per server: from then on every claim gets a fence above all that were ever given,
-- because those that were given last may have been lost, and must not be given twice. The time is above them all, since
-- no record is claimed once a millisecond. Where the new server's clock is behind, 2^20 above the last floor is, and
-- above the highest fence that a worker remembers: never otherwise, because a floor ahead of the clock that is lost
-- again would be followed by a lower one. An account without a record is not watched.
local EARLIER, UNTOLD = 'earlier', 'untold' -- in the place of a run id: of a copy's, and where INFO is refused

local function floor_above(server, fence)
  local last = math.max(num(redis.call('HGET', server, 'fence_floor')), fence or 0)
  return string.format('%d', now > last and now or last + 1048576)
end

local function run_id_here()
  local info = redis.pcall('INFO', 'server') -- refused to some users of managed servers: then nothing is noticed
  return type(info) == 'string' and string.match(info, 'run_id:(%w+)') or nil
end

-- Whether the server has changed; and the homes that workers remember and that it does not know.
local function changed(account, fence)
  local server = key('server', account)
  local s = redis.call('HMGET', server, 'run_id', 'noticed', 'forgot')
  if not s[1] then return false, s[3] end
  local id = run_id_here() or (s[1] == EARLIER and UNTOLD)
  if not id or id == s[1] then return false, s[3] end
  if id ~= s[2] then
    redis.call('HSET', server, 'noticed', id, 'noticed_at', now, 'fence_floor', floor_above(server, fence),
      'held_reason', 'reconciling after a server restart')
    count('server_changes', 1)
  end
  return true, s[3]
end

-- Whether packing and submitting wait, and what fences must be above. A pool waits for each of its accounts, because a
-- job that only the records of one have lost may hold what waits in the pool. After so long nothing is left of a job
-- (protocol sections 8.5 and 10), so an account that had no worker since is not waited for.
local POOL_KEEP_MS = 360000000
local function paused(account, fence)
  local is_new, forgot = changed(account, fence)
  local held, floor = is_new or forgot, num(redis.call('HGET', key('server', account), 'fence_floor'))
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', key('pool', account), now - POOL_KEEP_MS, '+inf')) do
    is_new, forgot = changed(one, fence)
    held = held or is_new or forgot
    floor = math.max(floor, num(redis.call('HGET', key('server', one), 'fence_floor')))
  end
  return held, floor
end

local function why_forgot(home, how)
  return 'the server has forgotten this queue' .. how .. ': the jobs of before are of home ' .. home
    .. ', which it does not know. Nothing is bought until somebody has seen to them: `gemqueue admin reconcile --home '
    .. home .. '`'
end

-- What a worker remembers of the server, against what this one knows. An earlier moment of the same queue, a copy that
-- was put back, is a change of the server like any other, but that no setting of its disk excuses it: it knows of an
-- earlier heartbeat than the worker does, and not because its clock was put back. A server that does not know the home
-- at all has forgotten the queue, or is another one: that holds the account until a person says how to go on
-- (rehome). An emulator's answers cost nothing, so its accounts go on. Whether nothing may be bought before a worker
-- has greeted this server, because it has no home to name jobs by.
local COPY_MS = 1000
local function recall(account, known)
  if known.home == '' then return false end
  local server = key('server', account)
  local s = redis.call('HMGET', server, 'home', 'past_homes', 'forgot', 'run_id', 'seen_at')
  if s[1] == known.home then
    local back_at = num(redis.call('HGET', key('clock', account), 'back_at'))
    local seen_at = num(s[5])
    if seen_at + COPY_MS < known.seen_at and known.seen_at <= now and seen_at ~= back_at and s[4] ~= EARLIER then
      redis.call('HSET', server, 'run_id', EARLIER, 'lossless', '0')
    end
  elseif not has_word(s[2] or '', known.home) and not has_word(s[3] or '', known.home)
    and string.sub(account, 1, 9) ~= 'emulated.' then
    local why = known.run_id == run_id_here() and 'it was emptied, or another of its databases answers'
      or 'another server answers, or this one has lost its data'
    local said = why_forgot(known.home, ' (' .. why .. ')')
    redis.call('HSET', server, 'forgot', s[3] and s[3] .. ' ' .. known.home or known.home, 'forgot_at', now,
      'forgot_reason', said, 'held_reason', said, 'fence_floor', floor_above(server, known.fence))
    count('forgotten', 1)
  end
  return not s[1]
end
