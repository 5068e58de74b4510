-- forget_name: a purged prompt's name is free again, if it still has it.
-- KEYS: prefix. ARGV: now, account, segment, prompt
-- prompt: its key
-- ok <how many names it had>
-- takes: _core (key, pass_when_full)
-- takes: _names (names_of)
local account, segment, prompt = unpack(ARGV, 2)
pass_when_full()
local n, ours = 0, key('name', account, '')
for _, name in ipairs(names_of(segment)) do
  if string.sub(name, 1, #ours) == ours and string.match(redis.call('GET', name), '^%S+') == prompt then
    n = n + redis.call('UNLINK', name)
  end
end
return { 'ok', n }
