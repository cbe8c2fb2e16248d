-- The indexes of unpaid units (unpaid.lua), with the sums of their scores: whoever writes an entry writes the sum too,
-- so that a redo, a rebuild and a repair keep them equal. A missing sum is counted again.

local chunked = require('chunked')

local unpaid_keys = {}

local PREFIX = 'unpaid:'

function unpaid_keys.is_one(name) return string.sub(name, 1, #PREFIX) == PREFIX end

function unpaid_keys.sum(prefix, group)
  local stored = redis.call('HGET', prefix .. 'unpaid', group)
  if stored then return tonumber(stored) end
  local entries, sum = redis.call('ZRANGE', prefix .. PREFIX .. group, 0, -1, 'WITHSCORES'), 0
  for i = 2, #entries, 2 do sum = sum + tonumber(entries[i]) end
  return sum
end

-- `add` is [score, member, …], `drop` [member, …]; `name` is without the prefix of the shard.
function unpaid_keys.write(prefix, name, add, drop)
  local key, group, change = prefix .. name, string.sub(name, #PREFIX + 1), 0
  local sum = unpaid_keys.sum(prefix, group)
  local function score_of(member) return tonumber(redis.call('ZSCORE', key, member) or 0) end
  for i = 1, #add, 2 do change = change + add[i] - score_of(add[i + 1]) end
  for i = 1, #drop do change = change - score_of(drop[i]) end
  chunked.call('ZADD', key, add)
  chunked.call('ZREM', key, drop)
  if sum + change == 0 then
    redis.call('HDEL', prefix .. 'unpaid', group)
  else
    redis.call('HSET', prefix .. 'unpaid', group, string.format('%.0f', sum + change))
  end
end

return unpaid_keys
