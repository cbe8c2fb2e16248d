-- msgpack by hand, to embed packed records in a larger value: the stored bytes are logged without packing them again.
-- Single bytes have names (`MSGPACK.NIL`, `MSGPACK.ARRAY_3`: tables/ledger/codes.py).

-- The msgpack of a number or string, cached: within a batch most values occur often.
local values = setmetatable({}, {__index = function(known, value)
  local packed = cmsgpack.pack(value)
  known[value] = packed
  return packed
end})

local function array_header(n)
  if n < 16 then return string.char(0x90 + n) end
  if n < 65536 then return string.char(0xdc, math.floor(n / 256), n % 256) end
  return string.char(0xdd, math.floor(n / 16777216), math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
end

-- An array of values that are packed already.
local function array(parts) return array_header(#parts) .. table.concat(parts) end

return {values = values, array_header = array_header, array = array}
