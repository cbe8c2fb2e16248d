-- The writes of a repair by subject: `repair_records.put.sku(command, old)` and so on; `old` is the stored record or
-- nil. Each returns a table whose `packed` goes into the payload.

local batch = require('batch')
local modes = require('modes')
local movements = require('movements')
local orders = require('orders')
local policies = require('policies')
local queue = require('queue')
local registry = require('registry')
local sku_record = require('sku_record')
local skus = require('skus')
local unpaid_keys = require('unpaid_keys')
local waiting = require('waiting')
local pack = cmsgpack.pack

local put = {}
local removed, index_drops = {}, {}

-- -> `value` if it is a whole number, else 0: the stored record may hold anything
local function whole(value)
  return type(value) == 'number' and value % 1 == 0 and math.abs(value) < 2 ^ 53 and value or 0
end

local function put_delta(name, units)
  if units ~= 0 then skus.log_delta(name, units) end
end

local function end_sku_repair(sku, command)
  sku_record.marks_of(sku).repaired = command.id
  sku.numbers[SKU.low], sku.numbers[SKU.high], sku.waits, sku.must_be_whole = 1, 0, true, true
  modes.finish(sku, {'repair', command.id, command.actor})
  sku.waits, sku.pools_changed = true, true -- rewrite the entries in the indexes of dwells and pools
  modes.note_dwells(sku)
  require('promises').index(sku)
  return sku
end

function put.sku(command, old)
  local was = old and type(old.counters) == 'table' and old.counters or {}
  local wanted = command.wanted.counters or {}
  local sku = skus.open(command.key, pack(command.wanted))
  sku.is_new = true
  sku.numbers[SKU.version] = math.max(sku.numbers[SKU.version], old and whole(old.version) or 0)
  skus.begin(sku)
  for name, value in pairs(wanted) do put_delta(name, value - whole(was[name])) end
  for name, value in pairs(was) do
    if type(name) == 'string' and not wanted[name] then put_delta(name, -whole(value)) end
  end
  return end_sku_repair(sku, command)
end

-- The stored bytes have changed, and the error in the counters persists. -> nil if another repair came first
function put.deltas(command)
  local sku = skus.get(command.key)
  if not sku or (sku_record.marks_of(sku).repaired or '') ~= (command.since or '') then return nil end
  skus.begin(sku)
  for name, units in pairs(command.deltas) do
    sku_record.set_counter(sku, name, sku_record.counter(sku, name) + units)
    put_delta(name, units)
  end
  sku_record.add_up(sku)
  return end_sku_repair(sku, command)
end

function put.order(command)
  local order
  if command.wanted then
    order = orders.open(command.key, pack(command.wanted)) -- a record by field names, as format 1 is
  else
    order = {id = command.key, record = {state = 'parked', lines = {}, events = {}}, dropped = true}
    orders.known[command.key] = false
  end
  -- All index entries are rewritten, whatever they hold.
  order.changed, order.was_due, order.was_held, order.was_waiting = true, 'unknown', {}, -1
  waiting.forget_sum()
  require('approvals').note(order)
  order.must_count = true
  orders.note_unpaid(order)
  for _, line in ipairs(order.record.lines) do
    order.was_held[line.sku] = not line.reserved
    queue.changed(order, line)
  end
  for _, index in ipairs(command.unindexed or {}) do
    index_drops[#index_drops + 1] = {index, command.key}
  end
  orders.changed[#orders.changed + 1] = order
  return order
end

local function drop_announcement(key)
  for _, name in ipairs({'expected', 'overdue', 'etas'}) do index_drops[#index_drops + 1] = {name, key} end
end

function put.movement(command)
  local warehouse, id = string.match(command.key, '^(.-)\n(.*)$')
  local movement = {warehouse = warehouse, id = id, changed = true, record = command.wanted}
  movements.known[command.key] = movement
  movements.included[#movements.included + 1] = movement
  if movement.record.eta then require('announcements').put_back(movement) else drop_announcement(command.key) end
  return movement
end

-- A sweep applies the channels' policies to all SKUs, as after a change of each policy.
function put.registry(command, old)
  local was = old and type(old.channels) == 'table' and old.channels or {}
  registry.use(command.wanted)
  for channel in pairs(registry.channels) do
    local before = type(was[channel]) == 'table' and type(was[channel].policy) == 'table' and was[channel].policy
    registry.before[channel] = before or registry.before[channel] or {}
    registry.forget_policies(channel)
  end
  policies.start_sweep()
  return {packed = registry.packed()}
end

-- Write a level's row again from the policy in force: only the table changes.
function put.policy(command)
  local own
  if command.sku then
    local sku = skus.get(command.sku)
    own = sku and sku.policies and sku.policies[command.key]
  else
    local known = registry.channels[command.key]
    own = known and known.has_policy and (known.policy or {}) or nil
  end
  policies.note({channel = command.key, sku = command.sku, actor = command.actor}, own, own)
  return {}
end

local function remove(command)
  if command.subject == 'order' then return put.order(command) end
  removed[#removed + 1] = command.subject .. ':' .. command.key
  if command.subject == 'sku' then
    skus.known[command.key] = false
    index_drops[#index_drops + 1] = {'skus', command.key}
    index_drops[#index_drops + 1] = {'dwells', command.key}
    index_drops[#index_drops + 1] = {'pools', command.key}
    index_drops[#index_drops + 1] = {'promises', command.key}
  elseif command.subject == 'movement' then
    drop_announcement(command.key)
  end
  return {}
end

batch.writers[#batch.writers + 1] = function()
  for _, name in ipairs(removed) do redis.call('DEL', KEYS[1] .. name) end
  for _, entry in ipairs(index_drops) do
    if unpaid_keys.is_one(entry[1]) then
      unpaid_keys.write(KEYS[1], entry[1], {}, {entry[2]})
    else
      redis.call('ZREM', KEYS[1] .. entry[1], entry[2])
    end
  end
end

return {put = put, remove = remove}
