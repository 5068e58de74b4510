-- settle: outcomes land, all or nothing. Any bit that is set already means that nothing is written: the bitmaps come
-- back, and the resolver drops those rows. A sealed batch settles what it has lost the bodies of.
-- What lands is counted here: failures, lost ones among them, and answers, which are the other rows. Each worker brings
-- its own text of this script: an older one, which was told what to count, and this one never count the same rows.
-- KEYS: prefix. ARGV: now, batch, fence, keep_s, dead_bytes_max, dead, each (segment, bits, rows, blob, failed, lost)
-- dead: msgpack [[key, lane, kind, message, body]]
-- ok | stale | state <state> | conflict <flat list of segment, bitmap> | unknown <segment>
-- takes: _core (account_of, count, key, pass_when_full, stale)
-- takes: _groups (groups)
-- takes: _bitmaps (merged, overlaps)
-- takes: _segments (land, notify)
-- takes: _dead (bury)
-- takes: _tally (tally)
local batch, fence, keep_s, dead_bytes_max, dead = unpack(ARGV, 2, 6)
local record = key('batch', batch)
if stale(record, fence) then return { 'stale' } end
local state = redis.call('HGET', record, 'state')
if state ~= 'ended' and state ~= 'closing' and state ~= 'sealed' then return { 'state', state or 'gone' } end
local maps, conflicts = {}, {}
for segment, bits in groups(7, 6) do
  if redis.call('EXISTS', key('segmeta', segment)) == 0 then return { 'unknown', segment } end
  local old = redis.call('GET', key('settled', segment)) or ''
  if overlaps(old, bits) then
    table.insert(conflicts, segment)
    table.insert(conflicts, old)
  end
  maps[segment] = merged(old, bits)
end
if #conflicts > 0 then return { 'conflict', conflicts } end

pass_when_full()
local notices, sums = {}, { rows = 0, failed = 0, lost = 0 }
for segment, _, rows, blob, failed, lost in groups(7, 6) do
  land(segment, maps[segment], rows, blob, keep_s, notices)
  sums.rows, sums.failed, sums.lost = sums.rows + rows, sums.failed + failed, sums.lost + lost
  local m = redis.call('HMGET', key('segmeta', segment), 'lane', 'tenant')
  tally(account_of(m[1]), m[2] or 'default', 'answered', rows - failed)
  tally(account_of(m[1]), m[2] or 'default', 'failed', tonumber(failed))
end
notify(notices)
count('answered', sums.rows - sums.failed)
count('failed', sums.failed)
count('lost_prompts', sums.lost)
for _, letter in ipairs(cmsgpack.unpack(dead)) do bury(letter, tonumber(dead_bytes_max)) end
return { 'ok' }
