-- purge_dead: forget dead letters.
-- KEYS: prefix. ARGV: now, each (letter)
-- letter: its id in the stream; at most 500
-- ok <how many there were>
-- takes: _core (T, pass_when_full)
-- takes: _groups (groups)
-- takes: _dead (unbury)
pass_when_full()
local n = 0
for letter in groups(2, 1) do
  local found = redis.call('XRANGE', T .. ':dead', letter, letter)[1]
  if found then
    unbury(found[1], found[2])
    n = n + 1
  end
end
return { 'ok', n }
