-- `chunked.call('ZADD', key, arguments)`: a command of Redis with any number of arguments.

-- Lua's `unpack` overflows the C stack at about 8,000 values. Even, because MSET and ZADD take pairs.
local CHUNK = 4000

-- Without `key` the arguments name the keys.
local function call(command, key, arguments)
  for from = 1, #arguments, CHUNK do
    local to = math.min(from + CHUNK - 1, #arguments)
    if key then
      redis.call(command, key, unpack(arguments, from, to))
    else
      redis.call(command, unpack(arguments, from, to))
    end
  end
end

return {call = call}
