-- greet: a worker of an account begins. The first one gives the server its home and notes which server it is. Where
-- that is another one since, and neither could lose a write (`lossless`), the account goes on at once.
-- KEYS: prefix. ARGV: now, account, home, lossless, again
-- home: to take when there is none. lossless: '1' where the server writes through before it answers and is no
-- promoted replica. again: '1' from a worker that works already: the server has forgotten the beginning, and with it
-- perhaps which fences were given
-- ok <home> | held <home>
-- takes: _core (key, now, pass_when_full)
-- takes: _server (changed, floor_above)
local account, home, lossless, again = unpack(ARGV, 2)
local server = key('server', account)
pass_when_full()
redis.call('HSETNX', server, 'home', home)
local s = redis.call('HMGET', server, 'run_id', 'lossless', 'home')
if not s[1] then
  local info = redis.pcall('INFO', 'server')
  local id = type(info) == 'string' and string.match(info, 'run_id:(%w+)')
  if id then redis.call('HSET', server, 'run_id', id, 'seen_at', now) end
  if again == '1' then redis.call('HSET', server, 'fence_floor', floor_above(server)) end
elseif changed(account) then
  if s[2] ~= '1' or lossless ~= '1' then return { 'held', s[3] } end
  redis.call('HSET', server, 'run_id', redis.call('HGET', server, 'noticed'), 'seen_at', now)
  redis.call('HDEL', server, 'held_reason', 'noticed', 'noticed_at')
end
redis.call('HSET', server, 'lossless', lossless)
return { 'ok', s[3] }
