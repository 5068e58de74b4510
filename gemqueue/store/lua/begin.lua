-- begin: the intent to create one job, written before the call: a fresh token and the exact file that the create will
-- name. Refused when the lease has run out: a create is only begun by a holder that cannot be overtaken while it lasts.
-- The token holds the fence, so an intent that carries it is the caller's own: asking again changes nothing.
-- KEYS: prefix. ARGV: now, batch, fence, lease_ms, token, file, by_key
-- by_key: fingerprint of the key that uploaded the file
-- ok | stale | state <state>
-- takes: _core (account_of, key, now, num, pass_when_full, stale)
-- takes: _steps (due_key)
local batch, fence, lease_ms, token, file, by_key = unpack(ARGV, 2)
local record = key('batch', batch)
if stale(record, fence) then return { 'stale' } end
local b = redis.call('HMGET', record, 'state', 'lease_until', 'lane', 'intent_token')
local again = b[1] == 'submitting' and b[4] == token
if b[1] ~= 'sealed' and not again then return { 'state', b[1] or 'gone' } end
if num(b[2]) <= now then return { 'stale' } end
if again then return { 'ok' } end
pass_when_full()
local until_ms = now + tonumber(lease_ms)
redis.call('HSET', record, 'state', 'submitting', 'intent_token', token, 'intent_file', file, 'intent_at', now,
  'fenced_at', 0, 'lease_until', until_ms, 'by_key', by_key)
redis.call('HDEL', record, 'event_at', 'event_job') -- of another intent
redis.call('HINCRBY', record, 'tries', 1)
redis.call('ZADD', due_key(account_of(b[3])), until_ms, 'submit ' .. batch)
return { 'ok' }
