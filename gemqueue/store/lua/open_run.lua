-- open_run: a process takes a run over. Whoever had it before can enqueue nothing more under it.
-- KEYS: prefix. ARGV: now, account, name, settings, producer, keep_s, command, config_mode, store, each (entry)
-- command: how it was started, as the last one said. config_mode: '' as it began. store: to take as the queue's id in
-- this server when it has none. entry: for the run's list
-- ok <epoch> <producer> <entries> <config mode> <store> | other <settings> | mode <config mode> (it was started with
-- another one, nothing is written)
-- takes: _core (key, now, num, pass_when_full)
-- takes: _groups (groups)
-- takes: _expiry (set_ttl)
local account, name, settings, producer, keep_s, command, config_mode, store = unpack(ARGV, 2, 9)
local run, list = key('run', account, name), key('runlist', account, name)
local known = redis.call('HGET', run, 'settings')
if known and known ~= settings then return { 'other', known } end
local begun, mode = known and (redis.call('HGET', run, 'config_mode') or 'replace'), config_mode
if mode == '' then mode = begun or 'merge' end
if begun and begun ~= mode then return { 'mode', begun } end
pass_when_full()
redis.call('SET', key('store'), store, 'NX')
redis.call('HSETNX', key('account', account), 'named_at', now)
redis.call('HSETNX', run, 'v', 1)
redis.call('HSETNX', run, 'settings', settings)
redis.call('HSETNX', run, 'producer', producer)
redis.call('HSETNX', run, 'created_at', now)
redis.call('HSETNX', run, 'config_mode', mode)
redis.call('HSET', run, 'opened_at', now, 'command', command)
local epoch = redis.call('HINCRBY', run, 'epoch', 1)
for entry in groups(10, 1) do redis.call('RPUSH', list, entry) end
if num(redis.call('HGET', run, 'open')) <= 0 then set_ttl(keep_s, run, list) end
return { 'ok', epoch, redis.call('HGET', run, 'producer'), redis.call('LLEN', list), mode,
  redis.call('GET', key('store')) }
