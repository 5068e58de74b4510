-- tally: raise the numbers of one hash, by as much as each of them says.
-- ARGV[2] the hash (counts, or spent:<lane>), ARGV[3...] name, n
-- ok
pass_when_full()
for i = 3, #ARGV, 2 do
  if tonumber(ARGV[i + 1]) ~= 0 then redis.call('HINCRBY', key(ARGV[2]), ARGV[i], ARGV[i + 1]) end
end
return { 'ok' }
