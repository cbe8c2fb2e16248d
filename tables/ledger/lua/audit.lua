-- Read keys and their index entries for an audit, all as of one batch. Writes nothing.
--
-- KEYS[1]  the shard's key prefix
-- ARGV[1]  msgpack [[kind, name, [index, …]], …]; kind: `sku`, `order`, `movement`, `registry` (name '') or `unpaid` (a
--          group); the indexes of holds, queues and unpaid units, and `approvals`, are those that are searched for the
--          order
-- ARGV[2]  '1': also search the indexes that the order's own record names: of its SKUs, and of requests
-- returns  {batch, token, the server's time in ms, {type, value or '', ms to live or -1, …}, …}; then for a
--          sku: its scores in `skus`, `dwells`, `fills`, `pools` and `promises`, each or false
--          movement: its scores in `expected`, `etas` and `overdue`, each or false
--          order: its score in `deadlines` or false, its score in `waiting` or false, then an index, its score
--          there or false, …
--          unpaid, instead of all this: {the units in the index of the group, their stored sum or false}
-- error    UNBLESSED: no takeover blessed this server

local order_record = require('order_record')
local server = require('server')

local prefix = KEYS[1]

local function stored(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return {kind, '', -1} end
  return {kind, kind == 'string' and redis.call('GET', key) or '', redis.call('PTTL', key)}
end

local function indexes_of(packed)
  local ok, record = pcall(order_record.unpack, packed)
  local indexes = {}
  if ok and type(record) == 'table' and record.approval then indexes[1] = 'approvals' end
  if ok and type(record) == 'table' and record.bounded and type(record.channel) == 'string' then
    indexes[#indexes + 1] = 'unpaid:' .. record.channel
    if type(record.buyer) == 'string' then
      indexes[#indexes + 1] = 'unpaid:' .. record.channel .. '\n' .. record.buyer
    end
  end
  if ok and type(record) == 'table' and type(record.lines) == 'table' then
    for _, line in ipairs(record.lines) do
      if type(line) == 'table' and type(line.sku) == 'string' then
        indexes[#indexes + 1] = 'held:' .. line.sku
        local channel = type(record.channel) == 'string' and record.channel or ''
        if channel ~= '' then indexes[#indexes + 1] = 'queue:' .. line.sku .. '\n' .. channel end
      end
    end
  end
  return indexes
end

local function add_entries(found, id, indexes, seen)
  for _, index in ipairs(indexes) do
    if not seen[index] then
      seen[index] = true
      found[#found + 1], found[#found + 2] = index, redis.call('ZSCORE', prefix .. index, id)
    end
  end
end

local function unpaid_of(group)
  local entries, units = redis.call('ZRANGE', prefix .. 'unpaid:' .. group, 0, -1, 'WITHSCORES'), 0
  for i = 2, #entries, 2 do units = units + tonumber(entries[i]) end
  return {units, redis.call('HGET', prefix .. 'unpaid', group)}
end

local function read(kind, name, indexes)
  if kind == 'unpaid' then return unpaid_of(name) end
  local found = stored(prefix .. (kind == 'registry' and kind or kind .. ':' .. name))
  if kind == 'sku' then
    for i, index in ipairs({'skus', 'dwells', 'fills', 'pools', 'promises'}) do
      found[3 + i] = redis.call('ZSCORE', prefix .. index, name)
    end
  elseif kind == 'movement' then
    for i, index in ipairs({'expected', 'etas', 'overdue'}) do
      found[3 + i] = redis.call('ZSCORE', prefix .. index, name)
    end
  elseif kind == 'order' then
    local seen = {}
    found[4] = redis.call('ZSCORE', prefix .. 'deadlines', name)
    found[5] = redis.call('ZSCORE', prefix .. 'waiting', name)
    add_entries(found, name, indexes, seen)
    if ARGV[2] == '1' then add_entries(found, name, indexes_of(found[2]), seen) end
  end
  return found
end

if not server.is_blessed(prefix) then return redis.error_reply('UNBLESSED no takeover blessed this server') end
local head = redis.call('HMGET', prefix .. 'head', 'batch', 'token')
local time = redis.call('TIME')
local answer = {tonumber(head[1] or 0), head[2] or '', time[1] * 1000 + math.floor(time[2] / 1000)}
for _, wanted in ipairs(cmsgpack.unpack(ARGV[1])) do answer[#answer + 1] = read(wanted[1], wanted[2], wanted[3]) end
return answer
