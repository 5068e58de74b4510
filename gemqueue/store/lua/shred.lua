-- shred: every key of a tenant goes, and what was sealed with one opens for nobody. Their generations are not made
-- again.
-- KEYS: prefix. ARGV: now, tenant, by
-- by: who wrapped them; it stays, for while one of those keys exists a backup still holds what is gone here
-- ok <the last generation that is gone>
-- takes: _core (key, now, num)
local tenant, by = unpack(ARGV, 2)
local record = key('seal', tenant)
local last = num(redis.call('HGET', record, 'shredded'))
for _, field in ipairs(redis.call('HKEYS', record)) do
  if string.match(field, '^%d+$') then
    last = math.max(last, tonumber(field))
    redis.call('HDEL', record, field)
  end
end
redis.call('HSET', record, 'shredded', last, 'shredded_at', now, 'by', by)
return { 'ok', last }
