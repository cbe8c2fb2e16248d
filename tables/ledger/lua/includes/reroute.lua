-- Move held units from warehouses below zero to others with free units (rule 36), where the policy of the order's
-- channel has `reroute`: VIP orders first, then the oldest, and no more than is missing, except that a line without
-- `split` moves whole. Units from pools stay. Before waiting orders are filled and channels evaluated.
-- While orders may have to move, the SKU has `rerouting`: {place, order_id, has_passed, goes_on}. The orders up to that
-- place in `held:<sku>` are done; `has_passed` is 1 if some of them could not move. `goes_on` is 0 until units come, 1
-- if a later step goes on after that place, 2 if it begins anew afterwards, because stock or a policy has changed.
-- Until then no waiting order is filled, and no channel returns to stock.

local alerts = require('alerts')
local batch = require('batch')
local draw = require('draw')
local left_over = require('left_over')
local offer = require('offer')
local order_budget = require('order_budget')
local orders = require('orders')
local registry = require('registry')
local sku_numbers = require('sku_numbers')
local sku_record = require('sku_record')
local skus = require('skus')

local free_at, name_at = sku_numbers.free_at, skus.name_at

local START = -2 ^ 53 -- below every place
local WAITS, GOES_ON, GOES_ON_ANEW = 0, 1, 2
local WAREHOUSES_PER_ORDER = 128 -- finding the warehouse with the most free units costs as much as reading an order
local ANY = {} -- a policy over all warehouses

local reroute = {}

local function set(sku, at)
  if not at and not sku.rerouting then return end
  sku_record.set_rerouting(sku, at)
  left_over.note(sku)
end

local function is_allowed(sku)
  if sku.policies then
    for _, channel in ipairs(registry.names) do
      if registry.policy_of(sku, channel).reroute then return true end
    end
    return false
  end
  for _, policy in ipairs(registry.groups().policies) do
    if policy.reroute then return true end
  end
  return false
end

-- The warehouses below zero, by the index of their first number.
local function below_zero(sku)
  local list, free = {}, sku_numbers.free_units(sku.numbers, sku.places.count)
  for place = 1, sku.places.count do
    if free[place] < 0 then list[#list + 1] = WAREHOUSE.first + WAREHOUSE.size * (place - 1) end
  end
  return list
end

-- Whether another policy may move held units of the SKU.
function reroute.is_due(sku) return is_allowed(sku) and #below_zero(sku) > 0 end

-- Note that a warehouse fell below zero or a policy changed (`is_anew`), or that units came. -> whether to move now
function reroute.note(sku, is_anew)
  local at = sku.rerouting
  if at and at[4] ~= WAITS then
    set(sku, {at[1], at[2], at[3], GOES_ON_ANEW})
    return false
  end
  if is_anew then set(sku, is_allowed(sku) and {START, '', 0, WAITS} or nil) end
  return sku.rerouting ~= nil
end

-- The units that a line holds at a warehouse, without those from pools.
local function shelf_units(line, warehouse)
  local units = line.warehouses and line.warehouses[warehouse] or 0
  for name, pooled in pairs(units > 0 and line.pools or ANY) do
    if string.match(name, '^[^@]*@(.*)$') == warehouse then units = units - pooled end
  end
  return units
end

-- What a line can take elsewhere: as much as is missing; without `split` all that it holds, in one warehouse.
local function draws_for(sku, order, line, policy, units, missing)
  local room = order_budget.ORDER_BYTES_MAX - #(order.packed or '')
  if policy.split then return draw.up_to(sku, policy, math.min(units, missing), line, room) end
  local draws = not line.pools and draw.plan(sku, policy, units)
  if not draws or #name_at(sku, draws[1]) + draw.UNITS_BYTES > room then return ANY end
  return draws
end

-- Move units of a line away from the warehouse whose first number is `numbers[at]`. -> how many, and whether some that
-- are missing there could not move
local function move_from(run, sku, order, line, policy, at)
  local warehouse = name_at(sku, at)
  local units, missing = shelf_units(line, warehouse), -free_at(sku.numbers, at)
  if units <= 0 or missing <= 0 then return 0, false end
  local draws, moved = draws_for(sku, order, line, policy, units, missing), 0
  if #draws == 0 then return 0, true end
  if not run.has_begun then skus.begin(sku) end
  run.has_begun = true
  orders.mark_changed(order)
  local kind = order.record.state == 'paid' and WAREHOUSE.committed or WAREHOUSE.locked
  for i = 1, #draws, 2 do
    skus.change_at(sku, draws[i], kind, draws[i + 1])
    orders.put_units(line, name_at(sku, draws[i]), draws[i + 1])
    moved = moved + draws[i + 1]
  end
  skus.change_at(sku, at, kind, -moved)
  orders.put_units(line, warehouse, -moved)
  local channel = order.record.channel
  alerts.add('rerouted', sku, {order_id = order.id, channel = channel, warehouse = warehouse, quantity = moved})
  return moved, moved < math.min(units, missing)
end

-- The line of an order whose units may move, and its policy. An order whose time is over waits for its end alone.
local function movable(sku, order)
  if not order or (order.record.state == 'reserved' and batch.now >= order.record.expires_at) then return nil end
  local line = orders.line_of(order, sku.name)
  local policy = registry.policy_of(sku, order.record.channel)
  if line and line.reserved and policy.reroute then return line, policy end
end

-- Move what an order holds in the warehouses below zero. -> whether some could not move, and whether some did
local function move(run, sku, order)
  local line, policy = movable(sku, order)
  local moved, is_left = 0, false
  for _, at in ipairs(line and run.short or ANY) do
    local units, is_left_here = move_from(run, sku, order, line, policy, at)
    moved, is_left = moved + units, is_left or is_left_here
  end
  if moved == 0 then return is_left, false end
  orders.advance_sequence(order)
  run.short, run.free = below_zero(sku), offer.best_of(sku, ANY)
  return is_left, true
end

-- Move what the batch has room for. The caller ends the change, and evaluates the channels. -> whether units were moved
function reroute.run(sku)
  local place, id, has_passed, goes_on = unpack(sku.rerouting)
  if goes_on == WAITS and has_passed == 1 then place, id, has_passed = START, '', 0 end
  local run = {short = below_zero(sku), free = offer.best_of(sku, ANY), has_begun = false}
  local next_entry, result = require('held').reader(sku, place, id), nil
  local cost = 1 + math.floor(sku.places.count / WAREHOUSES_PER_ORDER)
  while #run.short > 0 do
    if run.free == 0 then
      result = {place, id, goes_on == GOES_ON_ANEW and 1 or has_passed, WAITS}
      break
    end
    if not order_budget.has_room() then
      result = {place, id, has_passed, math.max(goes_on, GOES_ON)}
      break
    end
    local entry = next_entry()
    if entry then
      local order = orders.get(entry[2])
      order_budget.spend(cost, #(order and order.packed or ''))
      local is_left, has_moved = move(run, sku, order)
      if has_moved then order_budget.spend(cost, 0) end -- it is written too
      if not is_left or run.free > 0 then place, id = entry[1], entry[2] end
      if is_left and run.free > 0 then has_passed = 1 end
    elseif goes_on == GOES_ON_ANEW then
      place, id, has_passed, goes_on = START, '', 0, GOES_ON
      next_entry = require('held').reader(sku, place, id)
    else
      if has_passed == 1 then result = {place, id, has_passed, WAITS} end
      break
    end
  end
  set(sku, result)
  return run.has_begun
end

return reroute
