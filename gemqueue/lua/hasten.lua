-- hasten: look now. Moves only a step that nobody holds; the holder of a leased one looks again before it lets go.
-- ARGV[2] step member, ARGV[3] account
-- ok | gone
local step, id = string.match(ARGV[2], '^(%a+) (.+)$')
if not redis.call('ZSCORE', due_key(ARGV[3]), ARGV[2]) then return { 'gone' } end
pass_when_full()
want(key(step == 'pack' and 'lane' or 'batch', id), ARGV[3], ARGV[2], now)
return { 'ok' }
