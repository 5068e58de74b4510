-- settle: outcomes land, all or nothing. Any bit that is set already means that nothing is written: the bitmaps come
-- back, and the resolver drops those rows. A sealed batch settles what it has lost the bodies of.
-- ARGV[2] batch, ARGV[3] fence, ARGV[4] keep s, ARGV[5] msgpack {counts={name=n}, dead=[[key, lane, kind, message,
-- body]], dead_bytes_max},
-- then for each origin: ARGV[i] segment, bitmap, rows, blob
-- ok | stale | state <state> | conflict <flat list of segment, bitmap> | unknown <segment>
local record, keep_s, a = key('batch', ARGV[2]), tonumber(ARGV[4]), cmsgpack.unpack(ARGV[5])
if stale(record, ARGV[3]) then return { 'stale' } end
local state = redis.call('HGET', record, 'state')
if state ~= 'ended' and state ~= 'closing' and state ~= 'sealed' then return { 'state', state or 'gone' } end
local maps, conflicts = {}, {}
for i = 6, #ARGV, 4 do
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
for i = 6, #ARGV, 4 do land(ARGV[i], maps[i], tonumber(ARGV[i + 2]), ARGV[i + 3], keep_s, notices) end
notify(notices)
for name, n in pairs(a.counts) do count(name, n) end
for _, d in ipairs(a.dead) do bury(d, a.dead_bytes_max) end
return { 'ok' }
