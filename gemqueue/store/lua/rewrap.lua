-- rewrap: keys of a tenant are wrapped anew, or brought back. What has changed meanwhile, and what was destroyed, is
-- left alone.
-- KEYS: prefix. ARGV: now, tenant, by, each (generation, old, new)
-- by: who wrapped them so far; it is remembered for whoever destroys the keys. old: as it must be, or '' where there is
-- none
-- ok <how many>
-- takes: _core (has_word, key, num)
-- takes: _groups (groups)
local tenant, by = unpack(ARGV, 2, 3)
local record, n = key('seal', tenant), 0
local known = redis.call('HMGET', record, 'by', 'shredded')
for generation, old, new in groups(4, 3) do
  if (redis.call('HGET', record, generation) or '') == old and num(generation) > num(known[2]) then
    redis.call('HSET', record, generation, new)
    n = n + 1
  end
end
local words = known[1] or ''
for word in string.gmatch(by, '%S+') do
  if not has_word(words, word) then words = words == '' and word or words .. ' ' .. word end
end
if words ~= '' then redis.call('HSET', record, 'by', words) end
return { 'ok', n }
