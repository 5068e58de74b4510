-- count_twice: a job bought prompts that another job of the same batch has bought, too. Counted once per job, whoever
-- sees it.
-- KEYS: prefix. ARGV: now, batch, job, prompts
-- ok <0 or 1>
-- takes: _core (count, has_word, key, pass_when_full)
local batch, job, prompts = unpack(ARGV, 2)
local record = key('batch', batch)
if redis.call('EXISTS', record) == 0 then return { 'ok', 0 } end
local known = redis.call('HGET', record, 'twice') or ''
if has_word(known, job) then return { 'ok', 0 } end
pass_when_full()
redis.call('HSET', record, 'twice', known == '' and job or known .. ' ' .. job)
count('bought_twice', tonumber(prompts))
return { 'ok', 1 }
