-- settle: outcomes land, all or nothing. Any bit that is set already means that nothing is written: the bitmaps come
-- back, and the resolver drops those rows. A sealed batch settles what it has lost the bodies of.
-- What lands is counted here: failures, lost ones among them, and answers, which are the other rows. Each worker brings
-- its own text of this script: an older one, which was told what to count, and this one never count the same rows.
-- ARGV[2] batch, ARGV[3] fence, ARGV[4] keep s, ARGV[5] msgpack {dead=[[key, lane, kind, message, body]],
-- dead_bytes_max},
-- then for each origin: ARGV[i] segment, bitmap, rows, blob, failed, lost
-- ok | stale | state <state> | conflict <flat list of segment, bitmap> | unknown <segment>
-- takes: _core (count, key, pass_when_full, stale)
-- takes: _bitmaps (merged, overlaps)
-- takes: _segments (land, notify)
-- takes: _dead (bury)
local record, keep_s, a = key('batch', ARGV[2]), tonumber(ARGV[4]), cmsgpack.unpack(ARGV[5])
if stale(record, ARGV[3]) then return { 'stale' } end
local state = redis.call('HGET', record, 'state')
if state ~= 'ended' and state ~= 'closing' and state ~= 'sealed' then return { 'state', state or 'gone' } end
local maps, conflicts = {}, {}
for i = 6, #ARGV, 6 do
  if redis.call('EXISTS', key('segmeta', ARGV[i])) == 0 then return { 'unknown', ARGV[i] } end
  local old = redis.call('GET', key('settled', ARGV[i])) or ''
  if overlaps(old, ARGV[i + 1]) then
    table.insert(conflicts, ARGV[i])
    table.insert(conflicts, old)
  end
  maps[i] = merged(old, ARGV[i + 1])
end
if #conflicts > 0 then return { 'conflict', conflicts } end

pass_when_full()
local notices = {}
local answered, failed, lost = 0, 0, 0
for i = 6, #ARGV, 6 do
  local rows, failures = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 4])
  land(ARGV[i], maps[i], rows, ARGV[i + 3], keep_s, notices)
  answered, failed, lost = answered + rows - failures, failed + failures, lost + tonumber(ARGV[i + 5])
end
notify(notices)
count('answered', answered)
count('failed', failed)
count('lost_prompts', lost)
for _, d in ipairs(a.dead) do bury(d, a.dead_bytes_max) end
return { 'ok' }
