-- decide: a person knows better than what is being believed of a batch. The look is due at once. Either that look is
-- the last one, or all evidence is dropped and the looks are counted from this one on.
-- KEYS: prefix. ARGV: now, member, account, fence, decided
-- decided: what the record holds of it from now on; '' to drop the evidence
-- ok | stale | none (nothing is believed of the batch)
-- takes: _core (count, key, now, num, pass_when_full, stale)
-- takes: _steps (due_key, ring)
local member, account, fence, decided = unpack(ARGV, 2)
local record = key('batch', string.match(member, ' (.+)$'))
if stale(record, fence) then return { 'stale' } end
if num(redis.call('HGET', record, 'lease_until')) == 0 then return { 'ok' } end -- asked again
if num(redis.call('HGET', record, 'seen_n')) == 0 then return { 'none' } end
pass_when_full()
redis.call('HSET', record, 'lease_until', 0, 'decided', decided)
if decided == '' then redis.call('HDEL', record, 'seen_what', 'seen_n', 'seen_first_at', 'seen_last_at') end
redis.call('HDEL', record, 'look_again')
redis.call('ZADD', due_key(account), now, member)
ring(account)
count('decided', 1)
return { 'ok' }
