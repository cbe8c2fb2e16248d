-- The changes of a sorted set: `add` is [score, member, …], `drop` [member, …].

local chunked = require('chunked')

local function write(name, lists)
  chunked.call('ZREM', KEYS[1] .. name, lists.drop)
  chunked.call('ZADD', KEYS[1] .. name, lists.add)
end

return {write = write}
