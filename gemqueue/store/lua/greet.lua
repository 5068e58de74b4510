-- greet: a worker of an account begins, or meets a server that does not know it. The first one gives the server its
-- home and notes which server it is. Where that is another one since, and neither could lose a write (`lossless`), the
-- account goes on at once.
-- KEYS: prefix. ARGV: now, account, home, lossless, known
-- home: to take when there is none. lossless: '1' where the server writes through before it answers and is no
-- promoted replica. known: msgpack {home, run_id, seen_at, fence}, what the worker remembers of the server; with a home
-- where it works already, and then it may know fences that the server has forgotten
-- ok | held (packing and submitting wait until the provider's jobs have been compared with the records); each with
-- <home> <run id or ''> <why nothing is bought: the server has forgotten a home that a worker remembers, or ''>
-- takes: _core (key, now, pass_when_full)
-- takes: _server (changed, floor_above, recall, run_id_here)
local account, home, lossless, known = unpack(ARGV, 2)
local server, knows = key('server', account), cmsgpack.unpack(known)
pass_when_full()
recall(account, knows)
if redis.call('HSETNX', server, 'home', home) == 1 then redis.call('HSET', server, 'began_at', now) end
local s = redis.call('HMGET', server, 'run_id', 'lossless', 'home', 'forgot_reason')
local id = s[1]
if not id then
  id = run_id_here()
  if id then redis.call('HSET', server, 'run_id', id, 'seen_at', now) end
  if knows.home ~= '' then redis.call('HSET', server, 'fence_floor', floor_above(server, knows.fence)) end
elseif changed(account, knows.fence) then
  if s[2] ~= '1' or lossless ~= '1' then return { 'held', s[3], id, s[4] or '' } end
  id = redis.call('HGET', server, 'noticed')
  redis.call('HSET', server, 'run_id', id, 'seen_at', now)
  redis.call('HDEL', server, 'held_reason', 'noticed', 'noticed_at')
  if s[4] then redis.call('HSET', server, 'held_reason', s[4]) end
end
redis.call('HSET', server, 'lossless', lossless)
return { 'ok', s[3], id or '', s[4] or '' }
