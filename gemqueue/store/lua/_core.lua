-- What every script takes. KEYS[1] is the shard's tagged prefix: every key that a script touches carries it, so a
-- script works inside one Cluster slot. ARGV[1] is the time in ms under a test clock, else 0: the server's clock
-- decides. Replies are arrays whose first element is a word: 'ok', or why nothing was written.
local VERSION = 1 -- of every record's layout; a record of a later one is left alone
-- Of a batch's record, once a job of it has missed its input: whoever holds it keeps the next file to the end.
local KEEPS_INPUT = 2
-- Of a batch's record, once something is being believed of it: whoever holds it concludes slowly (policy/beliefs.py).
local BELIEVES = 3
-- Of the record of a batch, a lane or a rescue step, once it has had a segment that is sealed (gemqueue/sealing):
-- whoever holds it opens what it reads, and seals what it writes.
local SEALED = 4
local T = KEYS[1]
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function key(...)
  return T .. ':' .. table.concat({ ... }, ':')
end

local function count(name, n) -- a counter that is no number holds up nothing
  if n ~= 0 then redis.pcall('HINCRBY', T .. ':counts', name, n) end
end

-- A script whose first write frees memory may go on writing on a full server. All but enqueue and replay do: what is
-- under way must come to its end, and that is what frees memory.
local function pass_when_full()
  redis.call('UNLINK', T .. ':nothing')
end

local function num(value)
  return tonumber(value or 0) or 0
end

-- A record's layout is at least the v-th from now on: it never goes back.
local function raise_v(record, v)
  if num(redis.call('HGET', record, 'v')) < num(v) then redis.call('HSET', record, 'v', v) end
end

-- Whether a segment's body is sealed, as its first bytes say (gemqueue/sealing/box.py).
local function is_sealed(id)
  return redis.call('GETRANGE', key('segment', id), 0, 3) == 'GQS1'
end

-- Whether a list of words, with blanks between them, has this one.
local function has_word(list, word)
  return string.find(' ' .. list .. ' ', ' ' .. word .. ' ', 1, true) ~= nil
end

local function account_of(lane)
  return string.match(lane, '^[^/]+')
end

-- 'stale' unless the record still carries the caller's fence.
local function stale(record, fence)
  return redis.call('HGET', record, 'fence') ~= fence
end
