-- Give free units to the orders that wait for them (rules 15, 16, 49): short units first, from all that is on the
-- shelf; then preorders, from the units above the safety threshold of their channel. Nothing comes from pools, and
-- channels that sell from pools alone get nothing. Before any channel is evaluated.
-- A batch fills a bounded number of orders. What is left is kept from all channels as the SKU's `filling` (units), and
-- the SKU is in the sorted set `fills` until a later step has gone on with it.

local alerts = require('alerts')
local batch = require('batch')
local draw = require('draw')
local offer = require('offer')
local orders = require('orders')
local queue = require('queue')
local registry = require('registry')
local sku_record = require('sku_record')
local skus = require('skus')

local fill = {}

-- Entries of the queues that are read at a time, over all channels: most rises fill few orders.
local ENTRIES, ENTRIES_PER_CHANNEL_MAX = 256, 16
local FILL_BYTES_MAX = 131072 -- 128 KiB of records of orders per batch, or one order: some ms
-- Finding the next order costs as much as filling another one for each so many pairs of a channel and a warehouse.
local PAIRS_PER_ORDER, PAIRS_PER_CHANNEL = 256, 16
-- A record that has grown to this size takes no more warehouses: it must fit into a row (order_event_dispatch.lua).
local ORDER_BYTES_MAX = 1572864

local spent, spent_bytes = 0, 0
local noted = {} -- SKU -> whether it is in `fills`

local function has_room() return spent < batch.limits.fill_orders_max and spent_bytes < FILL_BYTES_MAX end

-- Orders that this batch filled, and what finding them cost as much as.
function fill.spent() return spent end

-- The units that a line of a channel may take now.
local function units_for(sku, policy, is_short)
  if policy.pool_only or offer.best_of(sku, policy) <= 0 then return 0 end
  local available = offer.available_of(sku, policy)
  if is_short then return available + (sku.promised or 0) end
  return available - policy.safety_threshold
end

-- The channels whose orders wait for units of the SKU.
function fill.waiting_channels(sku)
  local channels, seen = {}, {}
  for counter in pairs(sku.counters or {}) do
    local channel = string.match(counter, '^short@(.*)$') or string.match(counter, '^preordered@(.*)$')
    if channel and not seen[channel] then
      seen[channel] = true
      channels[#channels + 1] = {name = channel, policy = registry.policy_of(sku, channel), page = {}, at = 1}
    end
  end
  return channels
end

-- The line of an order that waits for units of a SKU. An order whose time is over waits for its end alone.
local function line_of(order, sku_name)
  if not order or (order.record.state == 'reserved' and batch.now >= order.record.expires_at) then return nil end
  for _, line in ipairs(order.record.lines) do
    if line.sku == sku_name and (line.short or line.preordered) then return line end
  end
end

-- The first entry of a channel's queue, {place, order_id}, or nil.
local function first_entry(sku, channel, count)
  local entry = channel.page[channel.at]
  if entry or channel.is_read then return entry end
  channel.page, channel.at = queue.first(sku.name, channel.name, count), 1
  channel.is_read = #channel.page < count
  return channel.page[1]
end

-- The channel whose first order is next among those that may take units now, and the number of these.
local function next_channel(sku, channels)
  local count = math.max(2, math.min(ENTRIES_PER_CHANNEL_MAX, math.floor(ENTRIES / #channels)))
  local best, best_entry, best_units
  for _, channel in ipairs(channels) do
    local for_short = units_for(sku, channel.policy, true)
    local entry = for_short > 0 and first_entry(sku, channel, count)
    if entry and (not best or queue.is_before(entry, best_entry)) then
      local units = queue.is_short(entry[1]) and for_short or units_for(sku, channel.policy, false)
      if units > 0 then best, best_entry, best_units = channel, entry, units end
    end
  end
  return best, best_units
end

-- Draw units for a line.
local function give(sku, order, line, policy, units)
  local field = line.short and 'short' or 'preordered'
  local room = ORDER_BYTES_MAX - #(order.packed or '')
  local draws, given = draw.up_to(sku, policy, math.min(units, line[field]), line, room), 0
  if #draws == 0 then
    alerts.add('fill_too_large', sku, {order_id = order.id, channel = order.record.channel})
    return queue.skip(sku.name, order.record.channel, order.id)
  end
  orders.mark_changed(order)
  local kind = order.record.state == 'paid' and WAREHOUSE.committed or WAREHOUSE.locked
  local names = sku.places.names
  for i = 1, #draws, 2 do
    skus.change_at(sku, draws[i], kind, draws[i + 1])
    orders.put_units(line, names[(draws[i] - WAREHOUSE.first) / WAREHOUSE.size + 1], draws[i + 1])
    given = given + draws[i + 1]
  end
  skus.change(sku, field, order.record.channel, -given)
  orders.add_to(line, field, -given)
  line.state = orders.open_state(order, line)
  orders.advance_sequence(order)
  queue.changed(order, line)
end

-- The units that go on waiting orders in a later step.
local function units_left(sku, channels)
  local most, waits = 0, 0
  for _, channel in ipairs(channels) do
    local short = skus.count_of(sku, 'short', channel.name)
    local preordered = skus.count_of(sku, 'preordered', channel.name)
    local for_short, for_preorders = units_for(sku, channel.policy, true), units_for(sku, channel.policy, false)
    if short > 0 and for_short > 0 then waits, most = waits + short, math.max(most, for_short) end
    if preordered > 0 and for_preorders > 0 then waits, most = waits + preordered, math.max(most, for_preorders) end
  end
  return math.min(most, waits)
end

-- Whether a line could take a unit.
function fill.is_due(sku)
  return sku.queued and (sku.filling ~= nil or units_left(sku, fill.waiting_channels(sku)) > 0)
end

-- Fill what the batch has room for. The caller ends the change, and evaluates the channels. -> whether units were given
function fill.run(sku)
  local was = sku.filling
  sku_record.set_filling(sku, 0)
  local channels, has_begun, left = fill.waiting_channels(sku), false, 0
  local cost = 1 + math.floor(#channels * (sku.places.count + PAIRS_PER_CHANNEL) / PAIRS_PER_ORDER)
  local channel, units = next_channel(sku, channels)
  while channel and has_room() do
    local id = channel.page[channel.at][2]
    local order = orders.get(id)
    local line = line_of(order, sku.name)
    spent, spent_bytes = spent + cost, spent_bytes + #(order and order.packed or '')
    if line then
      if not has_begun then skus.begin(sku) end
      has_begun = true
      give(sku, order, line, channel.policy, units)
    else
      queue.skip(sku.name, channel.name, id)
    end
    local is_done = not line_of(order, sku.name) or queue.is_skipped(sku.name, channel.name, id)
    if is_done then channel.at = channel.at + 1 end
    channel, units = next_channel(sku, channels)
  end
  if channel then left = units_left(sku, channels) end
  sku_record.set_filling(sku, left)
  if sku.filling ~= was then noted[sku.name] = sku.filling or false end
  return has_begun
end

-- The first SKU whose fill an earlier batch did not finish; false if it is not to be filled any more; nil: no SKU is
-- left over.
function fill.left_over()
  local sku_name = redis.call('ZRANGE', KEYS[1] .. 'fills', 0, 0)[1]
  if not sku_name then return nil end
  local sku = skus.get(sku_name)
  if sku and sku.filling then return sku end
  noted[sku_name] = false
  return false
end

batch.writers[#batch.writers + 1] = function()
  local lists = {add = {}, drop = {}}
  for sku_name, filling in pairs(noted) do
    local list = filling and lists.add or lists.drop
    if filling then list[#list + 1] = 0 end
    list[#list + 1] = sku_name
  end
  require('indexes').write('fills', lists)
end

return fill
