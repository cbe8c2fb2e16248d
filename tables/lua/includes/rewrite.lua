-- `rewrite(prefix, packed, first)`: put a state that somebody decided before, as `tables.redo.Writes` packs it.
-- packed: msgpack [set, expiring, gone, indexed, dropped]; the values of `set`, then those of `expiring`, are ARGV[first…]
--   set      [name, …]         expiring [[name, ms since the epoch], …]         gone [name, …]
--   indexed  [[name, [score, member, …]], …]      dropped [[name, [member, …]], …]      (sorted sets)
-- Names follow the prefix.
local REWRITE_CHUNK = 4000 -- Lua's `unpack` overflows the C stack at about 8,000 values

local function call_in_chunks(command, key, arguments)
  for from = 1, #arguments, REWRITE_CHUNK do
    local to = math.min(from + REWRITE_CHUNK - 1, #arguments)
    redis.call(command, key, unpack(arguments, from, to))
  end
end

local function rewrite(prefix, packed, first)
  local set, expiring, gone, indexed, dropped = unpack(cmsgpack.unpack(packed))
  for i, name in ipairs(set) do redis.call('SET', prefix .. name, ARGV[first + i - 1]) end
  first = first + #set
  for i, entry in ipairs(expiring) do
    redis.call('SET', prefix .. entry[1], ARGV[first + i - 1], 'PXAT', string.format('%.0f', entry[2]))
  end
  for _, name in ipairs(gone) do redis.call('DEL', prefix .. name) end
  for _, entry in ipairs(dropped) do call_in_chunks('ZREM', prefix .. entry[1], entry[2]) end
  for _, entry in ipairs(indexed) do call_in_chunks('ZADD', prefix .. entry[1], entry[2]) end
end
