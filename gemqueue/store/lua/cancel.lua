-- cancel: a prompt is settled as cancelled at once, wherever it is; an answer that still comes is dropped and counted.
-- Its batch counts it, so that whoever tracks the job reads the batch again; a line that has gone on into a retry
-- segment is in a batch that is not known here. Asked again after a lost reply, it says ok again.
-- KEYS: prefix. ARGV: now, segment, index, bits, blob, keep_s
-- ok <'pending' | the batch's state> | settled (too late) | unknown
-- takes: _core (account_of, count, key, num, pass_when_full)
-- takes: _bitmaps (merged, overlaps)
-- takes: _segments (land, notify)
-- takes: _tally (tally)
local segment, index, bits, blob, keep_s = unpack(ARGV, 2)
local meta_key = key('segmeta', segment)
local m = redis.call('HMGET', meta_key, 'count', 'batch', 'keys', 'went', 'lane', 'tenant')
if not m[1] or m[3] or tonumber(index) >= num(m[1]) then return { 'unknown' } end
local old = redis.call('GET', key('settled', segment)) or ''
local where = 'pending'
if m[2] then where = redis.call('HGET', key('batch', m[2]), 'state') or 'pending' end
if overlaps(old, bits) then
  if redis.call('LINDEX', key('outcomes', segment), -1) == blob then return { 'ok', where } end
  return { 'settled' }
end
pass_when_full()
local notices = {}
land(segment, merged(old, bits), 1, blob, tonumber(keep_s), notices)
notify(notices)
count('cancelled', 1)
tally(account_of(m[5]), m[6] or 'default', 'cancelled', 1)
if where ~= 'pending' then redis.call('HINCRBY', key('batch', m[2]), 'cancels', 1) end
if not m[4] then count('cancels_placed', 1) end
return { 'ok', where }
