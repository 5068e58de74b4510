-- resume: the provider's jobs have been compared with the records on this very server: packing and submitting go on.
-- With a reason they stay held, and the reason is told to whoever waits.
-- ARGV[2] account, ARGV[3] the server that was noticed when the comparison began, ARGV[4] reason or '', ARGV[5]
-- lossless
-- ok | other (the server has changed again since: compare again)
-- takes: _core (count, key, now, pass_when_full)
-- takes: _server (changed)
local server = key('server', ARGV[2])
pass_when_full()
if not changed(ARGV[2]) then return { 'ok' } end
if redis.call('HGET', server, 'noticed') ~= ARGV[3] then return { 'other' } end
if ARGV[4] ~= '' then
  redis.call('HSET', server, 'held_reason', ARGV[4])
  return { 'ok' }
end
redis.call('HSET', server, 'run_id', ARGV[3], 'seen_at', now, 'lossless', ARGV[5])
redis.call('HDEL', server, 'held_reason', 'noticed', 'noticed_at')
count('reconciled', 1)
return { 'ok' }
