-- rehome: a person has seen to what another home's jobs hold: the account goes on under the home that it has here, and
-- workers that remember the other one take it over.
-- KEYS: prefix. ARGV: now, account, home
-- ok <homes that are still held for, with blanks between them, or ''>
-- takes: _core (count, has_word, key, pass_when_full)
-- takes: _server (why_forgot)
local account, home = unpack(ARGV, 2)
local server = key('server', account)
pass_when_full()
local s = redis.call('HMGET', server, 'past_homes', 'forgot', 'noticed')
if not has_word(s[1] or '', home) then
  redis.call('HSET', server, 'past_homes', s[1] and s[1] .. ' ' .. home or home)
end
local left = {}
for one in string.gmatch(s[2] or '', '%S+') do
  if one ~= home then left[#left + 1] = one end
end
if s[2] and not left[1] then
  redis.call('HDEL', server, 'forgot', 'forgot_at', 'forgot_reason')
  if not s[3] then redis.call('HDEL', server, 'held_reason') end
  count('rehomed', 1)
elseif left[1] then
  local said = why_forgot(left[1], '')
  redis.call('HSET', server, 'forgot', table.concat(left, ' '), 'forgot_reason', said, 'held_reason', said)
end
return { 'ok', table.concat(left, ' ') }
