-- place {order_id, channel, lines, fingerprint, hold_ms, priority, accept, allow_preorder, supersedes, …}
-- A line is reserved whole, preordered whole, or refused with one reason; it is never split (rules 7, 11-13, 21). Only
-- one of an order that is already sold is never refused: what the shelf lacks is short or preordered (rule 49). What a
-- line draws from pools (pool_draw.lua) is reserved; this holds for the rest.

local alerts = require('alerts')
local batch = require('batch')
local draw = require('draw')
local modes = require('modes')
local offer = require('offer')
local orders = require('orders')
local registry = require('registry')
local skus = require('skus')

local get, begin, change_at, finish = skus.get, skus.begin, skus.change_at, modes.finish
local add_to, put_units, open_state = orders.add_to, orders.put_units, orders.open_state

-- Its row holds it twice in JSON and must fit into a record of 4 MiB, with room for later events.
local ORDER_BYTES_MAX = 1048576
local LINE_BYTES = 64 -- of a line without its names

local NONE = {}

-- End dwells and pools by time before a decision: they stay ended whatever the outcome of the order.
local function end_dwells(lines)
  for i = 1, #lines do
    local sku = get(lines[i].sku)
    if sku and sku.pool_times then require('pool_times').settle(sku) end
    if sku and modes.dwell_over(sku) then modes.touch(sku, {'dwell', '', sku.name}) end
  end
end

local function takes_preorders(policy, command)
  return policy.below_threshold == 'preorder' and policy.preorder_cap > 0 and command.allow_preorder ~= false
end

-- A sold line draws what is available, whatever the mode and the policy's amounts; that of a channel that sells from
-- pools alone draws nothing from the shelf. -> 'sold', draws
local function plan_sold(_, sku, policy, units)
  if sku.places.count == 0 or policy.pool_only then return 'sold', NONE end
  local available = offer.available_of(sku, policy)
  -- Where no fill is left over, no short unit can have what is free.
  if not sku.filling then available = available + (sku.promised or 0) end
  if available <= 0 then return 'sold', NONE end
  return 'sold', draw.up_to(sku, policy, math.min(units, available), NONE, ORDER_BYTES_MAX)
end

-- A forced line draws what is available as a sold one does, but whole.
local function plan_forced(_, sku, policy, units)
  local is_there = not policy.pool_only and offer.available_of(sku, policy) >= units
  local draws = is_there and draw.plan(sku, policy, units)
  if draws then return 'reserve', draws end
  return nil, O.INSUFFICIENT_STOCK
end

-- -> 'reserve', draws | 'preorder' | nil, reason
local function plan_shelf(command, sku, policy, units)
  if command.priority == 'vip' and not policy.pool_only and offer.available_of(sku, policy) >= units then
    local draws = draw.plan(sku, policy, units)
    if draws then return 'reserve', draws end
  end
  local mode, quantity, remaining = offer.shelf_of(sku, command.channel, policy)
  if mode == 'in_stock' then
    local draws = units <= quantity and draw.plan(sku, policy, units)
    if draws then return 'reserve', draws end
    return nil, O.INSUFFICIENT_STOCK
  end
  if mode == 'suspended' then return nil, O.CHANNEL_SUSPENDED end
  if not takes_preorders(policy, command) then return nil, O.INSUFFICIENT_STOCK end
  if units > remaining then return nil, O.PREORDER_CAP_REACHED end
  return 'preorder'
end

-- -> the same, or 'sold', draws; and what it draws from pools (pool_draw.lua) or nil
local function plan_line(command, sku_name, units)
  local sku = get(sku_name)
  local plan_rest = command.accept == 'sold' and plan_sold or command.force and plan_forced or plan_shelf
  if not sku then
    if plan_rest == plan_sold then return 'sold', NONE end
    return nil, O.UNKNOWN_SKU
  end
  local policy = registry.policy_of(sku, command.channel)
  if sku.numbers.pooled and (command.purpose or policy.purposes) then
    return require('pool_draw').plan(command, sku, policy, units, plan_rest)
  end
  return plan_rest(command, sku, policy, units)
end

-- Let units of a line wait for stock: `field` is `preordered` or `short`.
local function queue_units(order, line, sku, field, units)
  local queue = require('queue')
  order.record.queued = order.record.queued or queue.next_number()
  skus.change(sku, field, order.record.channel, units)
  add_to(line, field, units)
  queue.changed(order, line)
end

-- The units of a sold line that the shelf lacks: preordered where the policy allows it, else short.
local function queue_missing(order, line, sku, units, command)
  local channel = order.record.channel
  local policy, report = registry.policy_of(sku, channel), {order_id = order.id, channel = channel, quantity = units}
  if not takes_preorders(policy, command) then
    alerts.add('sold_short', sku, report)
    return queue_units(order, line, sku, 'short', units)
  end
  if units > offer.preorder_remaining_of(sku, channel, policy) then alerts.add('preorder_cap_exceeded', sku, report) end
  return queue_units(order, line, sku, 'preordered', units)
end

-- Hold units of a line as planned; those of a paid order are committed. `parts`: those from pools, or nil.
local function hold_line(order, line, units, kind, draws, cause, parts, command)
  local sku = kind == 'sold' and skus.get_or_new(line.sku) or get(line.sku)
  local counter, left = order.record.state == 'paid' and WAREHOUSE.committed or WAREHOUSE.locked, units
  begin(sku)
  if parts then left = units - require('pool_draw').hold(sku, line, parts, counter) end
  if kind == 'preorder' then
    queue_units(order, line, sku, 'preordered', left)
  else
    local names = sku.places.names
    for i = 1, #draws, 2 do
      change_at(sku, draws[i], counter, draws[i + 1])
      put_units(line, names[(draws[i] - WAREHOUSE.first) / WAREHOUSE.size + 1], draws[i + 1])
      left = left - draws[i + 1]
    end
    if left > 0 then queue_missing(order, line, sku, left, command) end
  end
  line.state = open_state(order, line)
  finish(sku, cause)
end

local function new_order(command)
  -- With room for the fields that the batch adds, here and below.
  local order = {
    id = command.order_id, changed = true, was_held = orders.none_held, included = nil, packed = nil, in_payload = nil,
    row = nil,
  }
  order.record = {
    state = 'rejected', channel = command.channel, sequence = 1, placed_at = batch.now,
    fingerprint = command.fingerprint, region = command.region, purpose = command.purpose, lines = {},
    events = {command.id, command.fingerprint},
    priority = command.priority ~= 'standard' and command.priority or nil,
    no_preorder = command.allow_preorder == false or nil, buyer = command.buyer,
  }
  local lines = order.record.lines
  for i = 1, #command.lines do
    local line = command.lines[i]
    lines[i] = {
      sku = line[1], quantity = line[2], state = 'rejected', reserved = nil, warehouses = nil, reason = nil,
    }
  end
  return order
end

-- The approximate size of the order's record if it is held as planned: it may draw on many warehouses with long names.
local function planned_bytes(lines, kinds, details, pooled)
  local bytes = 0
  for i = 1, #lines do
    bytes = bytes + #lines[i].sku + LINE_BYTES
    if pooled and pooled[i] then bytes = bytes + require('pool_draw').bytes_of(pooled[i]) end
    if kinds[i] == 'sold' and #details[i] == 0 then
      bytes = bytes + 8
    elseif kinds[i] == 'reserve' or kinds[i] == 'sold' then
      local names, draws = get(lines[i].sku).places.names, details[i]
      for d = 1, #draws, 2 do bytes = bytes + #names[(draws[d] - WAREHOUSE.first) / WAREHOUSE.size + 1] + 8 end
    end
  end
  return bytes
end

-- What is sold or paid already is a fact, and what is forced is approved by a second person: no limit holds for it.
-- -> the limits of unpaid units for an order, or nil
local function limits_of(command)
  local known = registry.channels[command.channel]
  if not (known and known.policy) or command.paid or command.force or command.accept == 'sold' then return nil end
  return require('unpaid').limits_of(command.channel)
end

-- Decide each line and hold the accepted ones. -> the order's outcome
local function decide(order, command)
  local lines, kinds, details = order.record.lines, {}, {}
  local limits = limits_of(command)
  local room = limits and require('unpaid').room(limits, command.channel, command.buyer)
  local first_reason, held, reserved, pooled = nil, 0, 0, nil
  for i = 1, #lines do
    local kind, detail, parts = plan_line(command, lines[i].sku, lines[i].quantity)
    if room and kind then
      if lines[i].quantity > room then
        kind, detail, parts = nil, O.TOO_MANY_HELD, nil
      else
        room = room - lines[i].quantity
      end
    end
    kinds[i], details[i] = kind or false, detail
    if parts then
      pooled = pooled or {}
      pooled[i] = parts
    end
    if kind then
      held = held + 1
    else
      lines[i].reason = detail
      first_reason = first_reason or detail
    end
  end
  if held == 0 or (first_reason and command.accept ~= 'partial') then return first_reason end
  if planned_bytes(lines, kinds, details, pooled) > ORDER_BYTES_MAX then
    for _, line in ipairs(lines) do line.reason = O.TOO_LARGE end
    return O.TOO_LARGE
  end
  local cause = {'place', command.id, order, nil}
  if command.paid then
    order.record.state = 'paid'
  else
    order.record.state, order.record.expires_at = 'reserved', batch.now + (command.hold_ms or 900000)
  end
  for i = 1, #lines do
    if kinds[i] then
      hold_line(
        order, lines[i], lines[i].quantity, kinds[i], details[i], cause, pooled and pooled[i], command
      )
      if lines[i].state ~= 'preordered' then reserved = reserved + 1 end
    end
  end
  if limits then
    order.record.bounded = true
    orders.note_unpaid(order)
  end
  return first_reason and O.PARTIAL or (reserved > 0 and O.RESERVED or O.PREORDERED)
end

return {
  ORDER_BYTES_MAX = ORDER_BYTES_MAX, end_dwells = end_dwells, new_order = new_order, plan_line = plan_line,
  planned_bytes = planned_bytes, hold_line = hold_line, decide = decide,
}
