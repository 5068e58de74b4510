-- count_doubt: a holder of an interactive batch died with calls under way; they may have been answered and paid
-- for. Counted once for each crash.
-- ARGV[2] batch, ARGV[3] fence, ARGV[4] crashes that the record showed, ARGV[5] calls at most
-- ok <calls counted> | stale
-- takes: _core (count, key, num, pass_when_full, stale)
local record = key('batch', ARGV[2])
if stale(record, ARGV[3]) then return { 'stale' } end
if num(redis.call('HGET', record, 'doubted')) >= tonumber(ARGV[4]) then return { 'ok', 0 } end
pass_when_full()
redis.call('HSET', record, 'doubted', ARGV[4])
count('interactive_in_doubt', tonumber(ARGV[5]))
return { 'ok', tonumber(ARGV[5]) }
