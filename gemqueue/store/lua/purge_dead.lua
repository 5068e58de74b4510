-- purge_dead: forget dead letters.
-- ARGV[2...] ids in the stream, at most 500
-- ok <how many there were>
-- takes: _core (T, pass_when_full)
-- takes: _dead (unbury)
pass_when_full()
local n = 0
for i = 2, #ARGV do
  local letter = redis.call('XRANGE', T .. ':dead', ARGV[i], ARGV[i])[1]
  if letter then
    unbury(letter[1], letter[2])
    n = n + 1
  end
end
return { 'ok', n }
