-- resume: the provider's jobs have been compared with the records on this very server: packing and submitting go on.
-- With a reason they stay held, and the reason is told to whoever waits.
-- KEYS: prefix. ARGV: now, account, noticed, reason, lossless
-- noticed: the server that was noticed when the comparison began. reason: or ''
-- ok | other (the server has changed again since: compare again)
-- takes: _core (count, key, now, pass_when_full)
-- takes: _server (changed)
local account, noticed, reason, lossless = unpack(ARGV, 2)
local server = key('server', account)
pass_when_full()
if not changed(account) then return { 'ok' } end
if redis.call('HGET', server, 'noticed') ~= noticed then return { 'other' } end
if reason ~= '' then
  redis.call('HSET', server, 'held_reason', reason)
  return { 'ok' }
end
redis.call('HSET', server, 'run_id', noticed, 'seen_at', now, 'lossless', lossless)
redis.call('HDEL', server, 'held_reason', 'noticed', 'noticed_at')
local forgot = redis.call('HGET', server, 'forgot_reason')
if forgot then redis.call('HSET', server, 'held_reason', forgot) end
count('reconciled', 1)
return { 'ok' }
