-- tally: raise numbers in hashes, by as much as each of them says; a hash of more than 1,000 takes no new ones.
-- ARGV[2...] the hash (counts, spent:<lane>, usage:<lane>), name, n
-- ok <what each of them is now>
pass_when_full()
local reply = { 'ok' }
for i = 2, #ARGV, 3 do
  local hash, name, n = key(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 2])
  local room = redis.call('HLEN', hash) < 1000 or redis.call('HEXISTS', hash, name) == 1
  reply[#reply + 1] = n ~= 0 and room and redis.call('HINCRBY', hash, name, ARGV[i + 2]) or 0
end
return reply
