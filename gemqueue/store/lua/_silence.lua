-- A lane's calls at an interactive service get no replies.

local KEEP_S = 604800 -- of the notes of calls: longer than any batch of an interactive lane is open

-- How long such a lane waits before it tries one call.
local function pause_ms(lost_calls, limit)
  return math.min(limit.max_ms, limit.first_ms * 2 ^ math.min(20, math.max(0, lost_calls - limit.silent_calls)))
end
