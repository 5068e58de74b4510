-- What a script is told of several things: in groups of the same size, behind its other arguments.
local function groups(first, size)
  local i = first - size
  return function()
    i = i + size
    if i <= #ARGV then return unpack(ARGV, i, i + size - 1) end
  end
end
