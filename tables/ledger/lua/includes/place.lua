-- place {order_id, channel, lines, fingerprint, hold_ms, priority, accept, allow_preorder, supersedes, …}
-- A line is reserved whole, preordered whole, or refused with one reason; it is never split (rules 7, 11-13, 21). What
-- it draws from pools (pool_draw.lua) is reserved; this holds for the rest.

local batch = require('batch')
local draw = require('draw')
local modes = require('modes')
local offer = require('offer')
local orders = require('orders')
local registry = require('registry')
local skus = require('skus')

local get, begin, change_at, put_units, finish = skus.get, skus.begin, skus.change_at, orders.put_units, modes.finish

-- Its row holds it twice in JSON and must fit into a record of 4 MiB, with room for later events.
local ORDER_BYTES_MAX = 1048576
local LINE_BYTES = 64 -- of a line without its names

local NONE = {}

-- End dwells and pools by time before a decision: they stay ended whatever the outcome of the order.
local function end_dwells(order)
  local lines = order.record.lines
  for i = 1, #lines do
    local sku = get(lines[i].sku)
    if sku and sku.pool_times then require('pool_times').settle(sku) end
    if sku and modes.dwell_over(sku) then modes.touch(sku, {'dwell', '', sku.name}) end
  end
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
  if policy.below_threshold ~= 'preorder' or policy.preorder_cap == 0 or command.allow_preorder == false then
    return nil, O.INSUFFICIENT_STOCK
  end
  if units > remaining then return nil, O.PREORDER_CAP_REACHED end
  return 'preorder'
end

-- -> the same, and what it draws from pools (pool_draw.lua) or nil
local function plan_line(command, sku_name, units)
  local sku = get(sku_name)
  if not sku then return nil, O.UNKNOWN_SKU end
  local policy = registry.policy_of(sku, command.channel)
  if sku.numbers.pooled and (command.purpose or policy.purposes) then
    return require('pool_draw').plan(command, sku, policy, units, plan_shelf)
  end
  return plan_shelf(command, sku, policy, units)
end

local function hold_line(order, line, kind, draws, cause, parts)
  local sku = get(line.sku)
  begin(sku)
  local rest = parts and line.quantity - require('pool_draw').hold(sku, line, parts) or line.quantity
  if kind == 'preorder' then
    skus.change(sku, 'preordered', order.record.channel, rest)
    line.preordered, line.state = rest, 'preordered'
  else
    local names = sku.places.names
    for i = 1, #draws, 2 do
      change_at(sku, draws[i], WAREHOUSE.locked, draws[i + 1])
      put_units(line, names[(draws[i] - WAREHOUSE.first) / WAREHOUSE.size + 1], draws[i + 1])
    end
    line.state = 'reserved'
  end
  finish(sku, cause)
end

local function new_order(command)
  -- With room for the fields that the batch adds, here and below.
  local order = {
    id = command.order_id, changed = true, was_held = NONE, included = nil, packed = nil, in_payload = nil, row = nil,
  }
  order.record = {
    state = 'rejected', channel = command.channel, sequence = 1, placed_at = batch.now,
    fingerprint = command.fingerprint, region = command.region, purpose = command.purpose, lines = {},
    events = {command.id, command.fingerprint},
    priority = command.priority ~= 'standard' and command.priority or nil,
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
    if kinds[i] == 'reserve' then
      local names, draws = get(lines[i].sku).places.names, details[i]
      for d = 1, #draws, 2 do bytes = bytes + #names[(draws[d] - WAREHOUSE.first) / WAREHOUSE.size + 1] + 8 end
    end
  end
  return bytes
end

-- Decide each line and hold the accepted ones. -> the order's outcome
local function decide(order, command)
  local lines, kinds, details = order.record.lines, {}, {}
  local first_reason, held, reserved, pooled = nil, 0, 0, nil
  for i = 1, #lines do
    local kind, detail, parts = plan_line(command, lines[i].sku, lines[i].quantity)
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
  for i = 1, #lines do
    if kinds[i] then
      hold_line(order, lines[i], kinds[i], details[i], cause, pooled and pooled[i])
      if kinds[i] == 'reserve' then reserved = reserved + 1 end
    end
  end
  order.record.state, order.record.expires_at = 'reserved', batch.now + (command.hold_ms or 900000)
  return first_reason and O.PARTIAL or (reserved > 0 and O.RESERVED or O.PREORDERED)
end

return {end_dwells = end_dwells, new_order = new_order, decide = decide}
