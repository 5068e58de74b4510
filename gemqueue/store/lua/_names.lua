-- Names of prompts: `names:<segment>` lists the keys of the names that a segment was given, `name:<account>:<name>`
-- says whose it is now. One that was purged, or submitted again, may belong to another segment by then.
-- takes: _core (key)

-- The keys of those of the segment's names that are still its own.
local function names_of(segment)
  local packed, own = redis.call('GET', key('names', segment)), {}
  for _, name in ipairs(packed and cmsgpack.unpack(packed) or {}) do
    local value = redis.call('GET', name)
    if value and string.match(value, '^[^.]+') == segment then own[#own + 1] = name end
  end
  return own
end
