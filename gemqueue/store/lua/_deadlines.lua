-- Segments whose prompts are wanted by a time.
-- takes: _core (SEALED, VERSION, account_of, is_sealed, key, now, num, raise_v)
-- takes: _steps (due_key, want)

-- A segment whose prompts are wanted by a time. Where a policy may send them another way, the rescue step reviews it
-- now, for which it gets review_ms before the segment may be packed, and then when it has said so.
local function promise(lane, id, deadline_at, review_ms)
  if num(deadline_at) == 0 then return end
  redis.call('HSET', key('segmeta', id), 'deadline_at', deadline_at)
  if num(review_ms) == 0 then return end
  redis.call('HSETNX', key('rescue', lane), 'v', VERSION)
  if is_sealed(id) then raise_v(key('rescue', lane), SEALED) end
  redis.call('ZADD', key('deadlines', lane), now, id)
  want(key('rescue', lane), account_of(lane), 'rescue ' .. lane, now)
end

-- Nobody need watch over this segment's deadline any more; with the last one the step goes, unless somebody holds it.
local function unpromise(lane, id)
  local index = key('deadlines', lane)
  if redis.call('ZREM', index, id) == 1 and redis.call('EXISTS', index) == 0
    and num(redis.call('HGET', key('rescue', lane), 'lease_until')) <= now then
    redis.call('ZREM', due_key(account_of(lane)), 'rescue ' .. lane)
  end
end
