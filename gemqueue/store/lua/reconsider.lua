-- reconsider: segments that are wanted by a time are due for a look of the rescue step at once, for more is known of
-- their batch than when it last looked. Those that nobody watches over, or any more, are left alone.
-- KEYS: prefix. ARGV: now, lane, each (segment)
-- ok <segments that are watched over>
-- takes: _core (account_of, key, now, pass_when_full)
-- takes: _groups (groups)
-- takes: _steps (want)
local lane = ARGV[2]
local index, watched = key('deadlines', lane), 0
pass_when_full()
for segment in groups(3, 1) do
  if redis.call('ZSCORE', index, segment) then
    redis.call('ZADD', index, 'LT', now, segment)
    watched = watched + 1
  end
end
if watched > 0 then want(key('rescue', lane), account_of(lane), 'rescue ' .. lane, now) end
return { 'ok', watched }
