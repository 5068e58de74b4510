-- Counts by tenant, in one hash an account: how many prompts of each were accepted, answered, failed and cancelled.
-- takes: _core (key)

local TALLIED_MAX = 1000 -- tenants by name; those who come later are counted together, as '*'
local TALLIED = { 'accepted', 'answered', 'failed', 'cancelled' }

local function tally(account, tenant, what, n)
  if n == 0 then return end
  local counts = key('tally', account)
  if redis.call('HEXISTS', counts, tenant .. ' accepted') == 0 then
    if redis.call('HLEN', counts) >= TALLIED_MAX * #TALLIED then tenant = '*' end
    for _, name in ipairs(TALLIED) do redis.call('HSETNX', counts, tenant .. ' ' .. name, 0) end
  end
  redis.call('HINCRBY', counts, tenant .. ' ' .. what, n)
end
