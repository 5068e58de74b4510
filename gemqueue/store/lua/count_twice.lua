-- count_twice: a job bought prompts that another job of the same batch has bought, too. Counted once per job, whoever
-- sees it.
-- ARGV[2] batch, ARGV[3] job, ARGV[4] prompts
-- ok <0 or 1>
-- takes: _core (count, has_word, key, pass_when_full)
local record = key('batch', ARGV[2])
if redis.call('EXISTS', record) == 0 then return { 'ok', 0 } end
local known = redis.call('HGET', record, 'twice') or ''
if has_word(known, ARGV[3]) then return { 'ok', 0 } end
pass_when_full()
redis.call('HSET', record, 'twice', known == '' and ARGV[3] or known .. ' ' .. ARGV[3])
count('bought_twice', tonumber(ARGV[4]))
return { 'ok', 1 }
