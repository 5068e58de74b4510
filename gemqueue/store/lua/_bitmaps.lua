-- Bitmaps: bit i is bit 7-(i%8) of byte i/8, as SETBIT has it.
local function overlaps(a, b)
  for i = 1, math.min(#a, #b) do
    if bit.band(string.byte(a, i), string.byte(b, i)) ~= 0 then return true end
  end
  return false
end

local function merged(a, b)
  if a == '' then return b end
  if #a < #b then a, b = b, a end
  local out = {}
  for i = 1, #b do out[i] = string.char(bit.bor(string.byte(a, i), string.byte(b, i))) end
  return table.concat(out) .. string.sub(a, #b + 1)
end

local function has_bit(map, index)
  local byte = string.byte(map, math.floor(index / 8) + 1)
  return byte ~= nil and bit.band(byte, bit.lshift(1, 7 - index % 8)) ~= 0
end
