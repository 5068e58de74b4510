-- purge_line: a value of a segment is replaced by one without a purged prompt, if it still is what it was.
-- ARGV[2] segment, ARGV[3] place in the list of outcomes, or -1 for the body, ARGV[4] SHA-1 of the old value, ARGV[5]
-- the new one
-- ok | changed (nothing is written)
-- takes: _core (T, count, key, num, pass_when_full)
local id, meta_key, at = ARGV[2], key('segmeta', ARGV[2]), tonumber(ARGV[3])
local old
if at < 0 then old = redis.call('GET', key('segment', id)) else old = redis.call('LINDEX', key('outcomes', id), at) end
if not old or redis.sha1hex(old) ~= ARGV[4] then return { 'changed' } end
local more = #ARGV[5] - #old
pass_when_full()
if at < 0 then
  redis.call('SET', key('segment', id), ARGV[5], 'KEEPTTL')
  redis.call('HINCRBY', meta_key, 'bytes', more)
else
  redis.call('LSET', key('outcomes', id), at, ARGV[5])
  local bytes = redis.call('HGET', meta_key, 'outcome_bytes')
  local score = redis.call('ZSCORE', T .. ':kept', id .. ' ' .. num(bytes))
  local now_bytes = redis.call('HINCRBY', meta_key, 'outcome_bytes', more)
  if score then
    redis.call('ZREM', T .. ':kept', id .. ' ' .. num(bytes))
    redis.call('ZADD', T .. ':kept', score, id .. ' ' .. now_bytes)
  end
end
count('live_bytes', more)
return { 'ok' }
