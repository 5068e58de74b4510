-- begin: the intent to create one job, written before the call: a fresh token and the exact file that the create will
-- name. Refused when the lease has run out: a create is only begun by a holder that cannot be overtaken while it lasts.
-- The token holds the fence, so an intent that carries it is the caller's own: asking again changes nothing.
-- ARGV[2] batch, ARGV[3] fence, ARGV[4] lease ms, ARGV[5] token, ARGV[6] file, ARGV[7] fingerprint of the key that
-- uploaded it
-- ok | stale | state <state>
-- takes: _core (account_of, key, now, num, pass_when_full, stale)
-- takes: _steps (due_key)
local record = key('batch', ARGV[2])
if stale(record, ARGV[3]) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lease_until', 'lane', 'intent_token')
local again = b[1] == 'submitting' and b[4] == ARGV[5]
if b[1] ~= 'sealed' and not again then return { 'state', b[1] or 'gone' } end
if num(b[2]) <= now then return { 'stale' } end
if again then return { 'ok' } end
pass_when_full()
local until_ms = now + tonumber(ARGV[4])
redis.call('HSET', record, 'state', 'submitting', 'intent_token', ARGV[5], 'intent_file', ARGV[6], 'intent_at', now,
  'fenced_at', 0, 'lease_until', until_ms, 'by_key', ARGV[7] or '')
redis.call('HDEL', record, 'event_at', 'event_job') -- of another intent
redis.call('HINCRBY', record, 'tries', 1)
redis.call('ZADD', due_key(account_of(b[3])), until_ms, 'submit ' .. ARGV[2])
return { 'ok' }
