-- msgpack by hand, to embed packed records in a larger value: the stored bytes are logged without packing them again.
local pack, unpack_all = cmsgpack.pack, cmsgpack.unpack

-- The msgpack of a number or string, cached: within a batch most values occur often.
local packed_values = setmetatable({}, {__index = function(values, value)
  local packed = pack(value)
  values[value] = packed
  return packed
end})

-- Lua's `unpack` overflows the C stack at about 8,000 values.
local CHUNK = 4000

local function array_header(n)
  if n < 16 then return string.char(0x90 + n) end
  if n < 65536 then return string.char(0xdc, math.floor(n / 256), n % 256) end
  return string.char(0xdd, math.floor(n / 16777216), math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
end

local function packed_array(parts)
  return array_header(#parts) .. table.concat(parts)
end

-- `command KEY arguments…` for any number of arguments; CHUNK is even, because MSET and ZADD take pairs.
local function call_many(command, key, arguments)
  for from = 1, #arguments, CHUNK do
    local to = math.min(from + CHUNK - 1, #arguments)
    if key then
      redis.call(command, key, unpack(arguments, from, to))
    else
      redis.call(command, unpack(arguments, from, to))
    end
  end
end

-- Lua prints a number of more than 14 digits with an exponent.
local function format_ms(ms) return string.format('%.0f', ms) end

local function is_empty(map) return next(map) == nil end
