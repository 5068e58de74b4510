-- open_run: a process takes a run over. Whoever had it before can enqueue nothing more under it.
-- ARGV[2] account, ARGV[3] name, ARGV[4] settings, ARGV[5] producer, ARGV[6] keep s, ARGV[7] command (how it was
-- started, as the last one said), ARGV[8] config mode ('' as it began), ARGV[9...] entries for the run's list
-- ok <epoch> <producer> <entries> <config mode> | other <settings> | mode <config mode> (it was started with another
-- one, nothing is written)
-- takes: _core (key, now, num, pass_when_full)
-- takes: _expiry (set_ttl)
local run, list, keep_s = key('run', ARGV[2], ARGV[3]), key('runlist', ARGV[2], ARGV[3]), tonumber(ARGV[6])
local known = redis.call('HGET', run, 'settings')
if known and known ~= ARGV[4] then return { 'other', known } end
local begun, mode = known and (redis.call('HGET', run, 'config_mode') or 'replace'), ARGV[8]
if mode == '' then mode = begun or 'merge' end
if begun and begun ~= mode then return { 'mode', begun } end
pass_when_full()
redis.call('HSETNX', run, 'v', 1)
redis.call('HSETNX', run, 'settings', ARGV[4])
redis.call('HSETNX', run, 'producer', ARGV[5])
redis.call('HSETNX', run, 'created_at', now)
redis.call('HSETNX', run, 'config_mode', mode)
redis.call('HSET', run, 'opened_at', now, 'command', ARGV[7])
local epoch = redis.call('HINCRBY', run, 'epoch', 1)
for i = 9, #ARGV do redis.call('RPUSH', list, ARGV[i]) end
if num(redis.call('HGET', run, 'open')) <= 0 then set_ttl(keep_s, run, list) end
return { 'ok', epoch, redis.call('HGET', run, 'producer'), redis.call('LLEN', list), mode }
