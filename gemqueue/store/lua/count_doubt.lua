-- count_doubt: a holder of an interactive batch died with calls under way; they may have been answered and paid
-- for. Counted once for each crash.
-- KEYS: prefix. ARGV: now, batch, fence, crashes, calls
-- crashes: that the record showed. calls: at most so many
-- ok <calls counted> | stale
-- takes: _core (count, key, num, pass_when_full, stale)
local batch, fence, crashes, calls = unpack(ARGV, 2)
local record = key('batch', batch)
if stale(record, fence) then return { 'stale' } end
if num(redis.call('HGET', record, 'doubted')) >= tonumber(crashes) then return { 'ok', 0 } end
pass_when_full()
redis.call('HSET', record, 'doubted', crashes)
count('interactive_in_doubt', tonumber(calls))
return { 'ok', tonumber(calls) }
