-- Give free units to the orders that wait for them (rules 15, 16, 49): short units first, from all that is on the
-- shelf; then preorders, from the units above the safety threshold of their channel. Nothing comes from pools, and
-- channels that sell from pools alone get nothing. Before any channel is evaluated.
-- A batch fills a bounded number of orders, and none while held units of the SKU are still to be moved. What is left is
-- kept from all channels as the SKU's `filling` (units) until later steps have gone on with it (left_over.lua).

local alerts = require('alerts')
local batch = require('batch')
local complete_first = require('complete_first')
local draw = require('draw')
local left_over = require('left_over')
local offer = require('offer')
local order_budget = require('order_budget')
local orders = require('orders')
local queue = require('queue')
local registry = require('registry')
local sku_record = require('sku_record')
local skus = require('skus')

local fill = {}

-- Entries of the queues that are read at a time, over all channels: most rises fill few orders.
local ENTRIES, ENTRIES_PER_CHANNEL_MAX = 256, 16
-- Finding the next order costs as much as filling another one for each so many pairs of a channel and a warehouse.
local PAIRS_PER_ORDER, PAIRS_PER_CHANNEL = 256, 16

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

-- The bytes of names of warehouses that an order's record may still take.
function fill.room_of(order) return order_budget.ORDER_BYTES_MAX - #(order.packed or '') end

-- Hold what was drawn for a line that waits for at least as much, short units first.
function fill.hold(sku, order, line, draws)
  orders.mark_changed(order)
  local kind = order.record.state == 'paid' and WAREHOUSE.committed or WAREHOUSE.locked
  local given = 0
  for i = 1, #draws, 2 do
    skus.change_at(sku, draws[i], kind, draws[i + 1])
    orders.put_units(line, skus.name_at(sku, draws[i]), draws[i + 1])
    given = given + draws[i + 1]
  end
  for _, field in ipairs({'short', 'preordered'}) do
    local take = math.min(given, line[field] or 0)
    if take > 0 then
      skus.change(sku, field, order.record.channel, -take)
      orders.add_to(line, field, -take)
    end
    given = given - take
  end
  line.state = orders.open_state(order, line)
  if not line.short and not line.preordered then complete_first.forget(order, line) end
  queue.changed(order, line)
end

-- Draw units for a line.
local function give(sku, order, line, policy, units)
  local wanted = line.short or line.preordered
  local draws = draw.up_to(sku, policy, math.min(units, wanted), line, fill.room_of(order))
  if #draws == 0 then
    alerts.add('fill_too_large', sku, {order_id = order.id, channel = order.record.channel})
    return queue.skip(sku.name, order.record.channel, order.id)
  end
  fill.hold(sku, order, line, draws)
  orders.advance_sequence(order)
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
  return sku.queued and (sku.filling ~= nil or next_channel(sku, fill.waiting_channels(sku)) ~= nil)
end

-- The order that gets units: the first one of `channel`, which may take `units`, or one that can be filled whole.
-- -> {channel, index on its page, order, line or nil, units}
local function choose(sku, channels, channel, units)
  local order = orders.get(channel.page[channel.at][2])
  local line = line_of(order, sku.name)
  if line and complete_first.may_pass(sku, order, line, units) then
    local other, searched, bytes = complete_first.find(sku, channels, units_for, line_of)
    order_budget.spend(searched, bytes)
    if other then
      complete_first.note_passed(sku, order)
      return other
    end
  end
  return {channel = channel, index = channel.at, order = order, line = line, units = units}
end

-- Fill what the batch has room for. The caller ends the change, and evaluates the channels. -> whether units were given
function fill.run(sku)
  local was = sku.filling
  sku_record.set_filling(sku, 0)
  local channels, has_begun, left = fill.waiting_channels(sku), false, 0
  local cost = 1 + math.floor(#channels * (sku.places.count + PAIRS_PER_CHANNEL) / PAIRS_PER_ORDER)
  local channel, units = next_channel(sku, channels)
  local must_wait = sku_record.is_rerouting(sku)
  while channel and not must_wait and order_budget.has_room() do
    local next_one = choose(sku, channels, channel, units)
    local order, line, of = next_one.order, next_one.line, next_one.channel
    local id = of.page[next_one.index][2]
    -- An order that this batch has changed is written once, however many of its lines are filled.
    order_budget.spend(cost, order and not order.changed and #(order.packed or '') or 0)
    if line then
      if not has_begun then skus.begin(sku) end
      has_begun = true
      give(sku, order, line, of.policy, next_one.units)
    else
      queue.skip(sku.name, of.name, id)
    end
    local is_done = not line_of(order, sku.name) or queue.is_skipped(sku.name, of.name, id)
    if is_done then table.remove(of.page, next_one.index) end
    channel, units = next_channel(sku, channels)
  end
  if channel then left = units_left(sku, channels) end
  sku_record.set_filling(sku, left)
  if sku.filling ~= was then left_over.note(sku) end
  return has_begun
end

return fill
