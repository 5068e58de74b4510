-- tally: raise numbers in hashes, by as much as each of them says; a hash of 1,000 fields takes no new ones.
-- KEYS: prefix. ARGV: now, each (hash, name, n)
-- hash: counts, spent:<lane> or usage:<lane>
-- ok <what each of them is now, 0 where there is no room for it>
-- takes: _core (key, pass_when_full)
-- takes: _groups (groups)
pass_when_full()
local reply = { 'ok' }
for hash, name, n in groups(2, 3) do
  local at, more = key(hash), tonumber(n)
  local value = more ~= 0 and redis.pcall('HINCRBY', at, name, n) or 0
  if type(value) == 'table' then value = 0 end -- an error: what is there is no number
  if value == more and more ~= 0 and redis.call('HLEN', at) > 1000 then
    redis.call('HDEL', at, name)
    value = 0
  end
  reply[#reply + 1] = value
end
return reply
