-- Read the orders and SKUs that a batch names in few MGETs; other records are read on demand. Records in memory are
-- not read again: the batch may have changed them.

local batch = require('batch')
local orders = require('orders')
local skus = require('skus')

-- 8 MiB of records per batch of several commands: some 100 ms; a single command has no limit.
local READ_BYTES_MAX = 8388608
local READ_KEYS = 128 -- per MGET: the limit is checked after each
local fetching = {bytes = 0, bytes_max = math.huge}

-- Add a name to those that are to be read, unless its record is in memory or to be read already.
local function want(names, known, name)
  if known[name] == nil then
    known[name] = false
    names[#names + 1] = name
  end
end

-- -> false if the batch has read more than `fetching.bytes_max`
local function read(prefix, names, open)
  local keys, count = {}, #names
  prefix = KEYS[1] .. prefix
  for i = 1, count do keys[i] = prefix .. names[i] end
  for from = 1, count, READ_KEYS do
    local values = redis.call('MGET', unpack(keys, from, math.min(from + READ_KEYS - 1, count)))
    for i = 1, #values do
      local packed = values[i]
      if packed then
        fetching.bytes = fetching.bytes + #packed
        open(names[from + i - 1], packed)
      end
    end
    if fetching.bytes > fetching.bytes_max then return false end
  end
  return true
end

local function fetch(prefix, names, known, open)
  local wanted = {}
  for i = 1, #names do want(wanted, known, names[i]) end
  return read(prefix, wanted, open)
end

local function orders_named(ids) return fetch('order:', ids, orders.known, orders.open) end
local function skus_named(names) return fetch('sku:', names, skus.known, skus.open) end

local RECORD_BYTES_MIN = 64 -- what a record counts at least, also one that does not exist yet

-- The first of `names` whose records total at most `bytes_max` bytes; at least one.
local function names_within(prefix, names, bytes_max)
  local bytes = 0
  for i, name in ipairs(names) do
    bytes = bytes + math.max(RECORD_BYTES_MIN, redis.call('STRLEN', KEYS[1] .. prefix .. name))
    if bytes > bytes_max and i > 1 then return {unpack(names, 1, i - 1)} end
  end
  return names
end

local ANNOUNCED_BYTES_MAX = 524288 -- 512 KiB of announcements in a batch that names several: some 10 ms
local announced = {bytes = 0, count = 0}

local function note_announcement(command)
  local id = command.expected_id or command.kind == 'expect' and command.id
  local key = id and command.warehouse .. '\n' .. id
  if not key or announced[key] then return end
  announced[key], announced.count = true, announced.count + 1
  announced.bytes = announced.bytes + redis.call('STRLEN', KEYS[1] .. 'movement:' .. key)
end

-- -> false if the batch must be divided
local function run(commands)
  fetching.bytes_max = #commands > 1 and READ_BYTES_MAX or math.huge
  local ids, names, known_orders, known_skus = {}, {}, orders.known, skus.known
  for i = 1, #commands do
    local command = commands[i]
    if command.order_id then want(ids, known_orders, command.order_id) end
    if command.supersedes then want(ids, known_orders, command.supersedes) end
    local lines = command.lines or command.add or {}
    if command.warehouse then note_announcement(command) end
    local is_in_steps = command.warehouse and (command.parts or #lines > batch.limits.lines_per_step)
    for k = 1, is_in_steps and 0 or #lines do want(names, known_skus, lines[k][1]) end
  end
  if announced.count > 1 and announced.bytes > ANNOUNCED_BYTES_MAX then return false end
  if not read('order:', ids, orders.open) then return false end
  for i = 1, #ids do
    local order = known_orders[ids[i]]
    if order then
      for _, line in ipairs(order.record.lines) do want(names, known_skus, line.sku) end
    end
  end
  local is_within = read('sku:', names, skus.open)
  fetching.bytes_max = math.huge
  return is_within
end

return {
  READ_BYTES_MAX = READ_BYTES_MAX, orders_named = orders_named, skus_named = skus_named, names_within = names_within,
  run = run,
}
