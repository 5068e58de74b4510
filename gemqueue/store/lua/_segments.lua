-- Outcomes land, an origin comes to its end, and whoever waits is told.
-- takes: _core (T, account_of, count, key, now, num)
-- takes: _expiry (kept_for, set_ttl)
-- takes: _names (names_of)
-- takes: _deadlines (unpromise)
-- takes: _watchers (WATCHERS_MAX)

-- A run's record lives as long as a segment of it, and then as long as the outcomes.
local function leave_run(account, name, keep_s)
  local run = key('run', account, name)
  if redis.call('EXISTS', run) == 1 and redis.call('HINCRBY', run, 'open', -1) <= 0 then
    set_ttl(keep_s, run, key('runlist', account, name))
  end
end

-- An origin's last bit is set: TTLs on everything that it leaves behind, and its body goes.
local function finish(id, meta_key, keep_s)
  local meta = redis.call('HMGET', meta_key, 'bytes', 'outcome_bytes', 'run', 'lane', 'tenant')
  keep_s = kept_for(meta[4], meta[5], keep_s)
  redis.call('UNLINK', key('segment', id), key('moved', id))
  count('live_bytes', -num(meta[1]))
  redis.call('HSET', meta_key, 'state', 'closed', 'bytes', 0, 'closed_at', now)
  for _, name in ipairs(names_of(id)) do set_ttl(keep_s, name) end
  set_ttl(keep_s, meta_key, key('settled', id), key('outcomes', id), key('names', id), key('watch', id))
  redis.call('ZADD', T .. ':kept', now + keep_s * 1000, id .. ' ' .. num(meta[2]))
  unpromise(meta[4], id)
  if meta[3] then leave_run(account_of(meta[4]), meta[3], keep_s) end
end

-- Notices go to the producer and to whoever registered: one entry per inbox and call. Whoever has no inbox any more is
-- gone, and watches no longer.
local function notify(notices)
  for who, ids in pairs(notices) do
    local told = redis.call('XADD', key('inbox', who), 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', 's',
      table.concat(ids, ' '))
    if not told then
      for _, id in ipairs(ids) do redis.call('SREM', key('watch', id), who) end
    end
  end
end

-- Of a segment that more watch than are let in (watch.lua), as many as that: the others look by themselves.
local function notice(notices, id, producer, watched)
  local function add(who)
    notices[who] = notices[who] or {}
    table.insert(notices[who], id)
  end
  if producer and producer ~= '' then add(producer) end
  if watched then
    for _, who in ipairs(redis.call('SRANDMEMBER', key('watch', id), WATCHERS_MAX)) do
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

-- Lines of a segment went on into another one: told to whoever asks about a prompt, and bounded, for nothing rests on
-- it.
local function went_to(segment, id)
  local meta_key = key('segmeta', segment)
  local m = redis.call('HMGET', meta_key, 'state', 'went')
  if m[1] and #(m[2] or '') < 2000 then redis.call('HSET', meta_key, 'went', m[2] and (m[2] .. ' ' .. id) or id) end
end
