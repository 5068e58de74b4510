-- tally: raise numbers in hashes, by as much as each of them says; a hash of 1,000 fields takes no new ones.
-- ARGV[2...] the hash (counts, spent:<lane>, usage:<lane>), name, n
-- ok <what each of them is now, 0 where there is no room for it>
-- takes: _core (key, pass_when_full)
pass_when_full()
local reply = { 'ok' }
for i = 2, #ARGV, 3 do
  local hash, name, n = key(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 2])
  local value = n ~= 0 and redis.call('HINCRBY', hash, name, ARGV[i + 2]) or 0
  if value == n and n ~= 0 and redis.call('HLEN', hash) > 1000 then
    redis.call('HDEL', hash, name)
    value = 0
  end
  reply[#reply + 1] = value
end
return reply
