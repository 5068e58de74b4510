-- cancel: a prompt is settled as cancelled at once, wherever it is; an answer that still comes is dropped and counted.
-- Asked again after a lost reply, it says ok again.
-- ARGV[2] segment, ARGV[3] index, ARGV[4] bitmap, ARGV[5] blob, ARGV[6] keep s
-- ok <'pending' | the batch's state> | settled (too late) | unknown
-- takes: _core (count, key, num, pass_when_full)
-- takes: _bitmaps (merged, overlaps)
-- takes: _segments (land, notify)
local id, meta_key = ARGV[2], key('segmeta', ARGV[2])
local m = redis.call('HMGET', meta_key, 'count', 'batch', 'keys')
if not m[1] or m[3] or tonumber(ARGV[3]) >= num(m[1]) then return { 'unknown' } end
local old = redis.call('GET', key('settled', id)) or ''
local where = 'pending'
if m[2] then where = redis.call('HGET', key('batch', m[2]), 'state') or 'pending' end
if overlaps(old, ARGV[4]) then
  if redis.call('LINDEX', key('outcomes', id), -1) == ARGV[5] then return { 'ok', where } end
  return { 'settled' }
end
pass_when_full()
local notices = {}
land(id, merged(old, ARGV[4]), 1, ARGV[5], tonumber(ARGV[6]), notices)
notify(notices)
count('cancelled', 1)
return { 'ok', where }
