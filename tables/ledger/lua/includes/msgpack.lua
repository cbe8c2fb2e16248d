-- msgpack by hand, to embed packed records in a larger value: the stored bytes are logged without packing them again.
-- Single bytes have names (`MSGPACK.NIL`, `MSGPACK.ARRAY_3`: tables/ledger/codes.py).

-- The msgpack of a number or string, cached: within a batch most values occur often.
local values = setmetatable({}, {__index = function(known, value)
  local packed = cmsgpack.pack(value)
  known[value] = packed
  return packed
end})

-- The header of a string by its size: a string with its header is cheaper than packing it.
local string_headers = setmetatable({}, {__index = function(known, size)
  local header = string.sub(cmsgpack.pack(string.rep(' ', size)), 1, -size - 1)
  known[size] = header
  return header
end})

local function array_header(size)
  if size < 16 then return string.char(0x90 + size) end
  if size < 65536 then return string.char(0xdc, math.floor(size / 256), size % 256) end
  local high = math.floor(size / 65536)
  return string.char(0xdd, math.floor(high / 256), high % 256, math.floor(size / 256) % 256, size % 256)
end

-- An array of values that are packed already.
local function array(parts) return array_header(#parts) .. table.concat(parts) end

return {values = values, string_headers = string_headers, array_header = array_header, array = array}
