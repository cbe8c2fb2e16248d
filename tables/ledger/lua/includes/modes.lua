-- The side of the threshold that each channel is on, stored in the SKU: leaving `in_stock` is immediate, coming back
-- waits for the resume threshold and the dwell (rules 4, 7, 8, 9).

local alerts = require('alerts')
local batch = require('batch')
local offer = require('offer')
local registry = require('registry')
local sku_numbers = require('sku_numbers')
local sku_record = require('sku_record')
local skus = require('skus')

local log, causes, free_at = skus.log, skus.causes, sku_numbers.free_at

local dwells_due = {}

-- The channels whose side goes into the patch (includes/payload.lua).
local function note_side(sku, channel)
  sku.sides = sku.sides or {}
  sku.sides[channel] = true
end

-- The units by which the current change moved a warehouse's free units, given the index of its first number.
local FREE_SIGN = {
  [WAREHOUSE.on_hand] = 1, [WAREHOUSE.committed] = -1, [WAREHOUSE.locked] = -1, [WAREHOUSE.damaged] = 0,
}

local function moved_at(sku, at)
  local sum, first, from = 0, at - WAREHOUSE.first, sku.logged_from
  while from < log.size do -- the change, and a fill that followed it
    local last = from + 4 + 2 * log[from + 4]
    for i = from + 5, last, 2 do
      local counter = log[i]
      if type(counter) == 'string' then
        if sku_record.pool_place(sku, counter) == at then sum = sum - log[i + 1] end
      elseif counter >= first and counter < first + WAREHOUSE.size then
        sum = sum + FREE_SIGN[counter - first] * log[i + 1]
      end
    end
    from = last
  end
  return sum
end

-- Units available under a policy before the current change.
local function available_before(sku, policy)
  if not policy.warehouses then return sku.sum_was end
  local sum = -(sku.promised_was or 0)
  for _, warehouse in ipairs(policy.warehouses) do
    local at = sku.places.at[warehouse]
    if at then sum = sum + free_at(sku.numbers, at) - moved_at(sku, at) end
  end
  return sum
end

local function leave(sku, channel, policy, available, never_was)
  note_side(sku, channel)
  sku.modes = sku.modes or {}
  sku.modes[channel] = {1, never_was and 0 or batch.now, 0} -- state (1: below), left_at, due
  if available <= policy.safety_threshold and policy.safety_threshold > 0 and not never_was then
    alerts.add('low_stock', sku, {channel = channel, quantity = available})
  end
end

local function return_to_stock(sku, channel, policy, side, waived)
  note_side(sku, channel)
  local due = side[2] + policy.dwell_seconds * 1000
  if side[2] == 0 or waived or batch.now >= due then
    sku.modes[channel] = nil
  else
    side[3] = due
  end
end

-- The index of dwells holds a SKU once, at the earliest end among its channels, or the earliest time of its pools.
local function note_dwells(sku)
  local first = false
  if sku.modes then
    for _, side in pairs(sku.modes) do
      if side[3] ~= 0 and (not first or side[3] < first) then first = side[3] end
    end
  end
  local due = first
  if sku.pool_times then due = sku_record.earlier(due, sku_record.pool_due(sku)) end
  if due or sku.waits or sku.pools_changed then dwells_due[sku.name] = due end
  sku.waits = first
end

-- Whether a change may move a side. Sides depend on the policies and on the available units alone, except where a
-- dwell waits for its end; within the SKU's interval of available units no side moves (set_interval).
local function may_move(sku, waived)
  local numbers, sum = sku.numbers, sku.sum
  return sum < numbers[SKU.low] or sum > numbers[SKU.high] or numbers[SKU.as_of] ~= registry.as_of or waived
end

-- Numbers of available units at which the side of a channel under a policy can move; false: at any, because the sum
-- over all warehouses does not decide.
local function edges_of(policy)
  if policy.edges == nil then
    if policy.warehouses or not policy.split then
      policy.edges = false
    else
      policy.edges = {policy.safety_threshold + 1, policy.resume_threshold, offer.first_offered(policy)}
    end
  end
  return policy.edges
end

-- -> `low`, `high` narrowed to where the policy moves no side
local function narrowed(sku, policy, low, high)
  local edges, sum = edges_of(policy), sku.sum
  if not edges then return 1, 0 end
  for i = 1, #edges do
    local edge = edges[i]
    if edge > sum then
      if edge <= high then high = edge - 1 end
    elseif edge > low then
      low = edge
    end
  end
  return low, high
end

-- Set the interval of available units, around the current number, within which no channel's side moves.
local function set_interval(sku)
  local numbers, sum = sku.numbers, sku.sum
  if not sku_numbers.fits(sum) then sku_record.widen(sku) end
  local high = sku_numbers.limit(sku.width)
  local low = -high
  if sku.waits then
    low, high = 1, 0
  elseif sku.policies then
    for _, channel in ipairs(registry.names) do
      low, high = narrowed(sku, registry.policy_of(sku, channel), low, high)
    end
  else
    for _, policy in ipairs(registry.groups().policies) do low, high = narrowed(sku, policy, low, high) end
  end
  numbers[SKU.low], numbers[SKU.high], numbers[SKU.as_of] = low, high, registry.as_of
end

-- Set the side of every known channel for the current stock. `waived`: channels without a dwell.
local function evaluate(sku, waived)
  if sku.places.count == 0 then return end
  local evaluated, available, offered
  local must_wait = sku_record.is_rerouting(sku) -- no channel returns before held units have moved
  for _, channel in ipairs(registry.names) do
    local policy = registry.policy_of(sku, channel)
    if policy ~= evaluated then
      evaluated, available = policy, offer.available_of(sku, policy)
      offered = offer.offered_of(sku, policy, available)
    end
    local side = sku.modes and sku.modes[channel]
    if not side then
      if offer.falls_below(policy, available, offered) then
        leave(sku, channel, policy, available, sku.starting or registry.fresh[channel])
      elseif available <= policy.safety_threshold and available_before(sku, policy) > policy.safety_threshold then
        alerts.add('low_stock', sku, {channel = channel, quantity = available})
      end
    elseif offer.comes_back(policy, available, offered) then
      if not must_wait then return_to_stock(sku, channel, policy, side, waived and waived[channel]) end
    elseif side[3] ~= 0 then
      note_side(sku, channel)
      side[3] = 0
    end
  end
  sku.starting = nil
  note_dwells(sku)
  set_interval(sku)
end

-- Rule 47: alert for each counter of physical units that is negative and fell. A shortfall is a warehouse below zero
-- that fell further. -> whether there is one
local PHYSICAL = {[WAREHOUSE.on_hand] = 'on_hand_negative', [WAREHOUSE.damaged] = 'damaged_negative'}

local NONE = {}

local function report_negative(sku)
  local numbers, reported = sku.numbers, nil
  for i = sku.logged_from + 5, log.size, 2 do
    local counter = log[i]
    if type(counter) == 'number' then
      local kind = counter % WAREHOUSE.size
      local at = counter - kind + WAREHOUSE.first
      if log[i + 1] < 0 and PHYSICAL[kind] and numbers[at + kind] < 0 then
        local warehouse = sku.places.names[(counter - kind) / WAREHOUSE.size + 1]
        alerts.add(PHYSICAL[kind], sku, {warehouse = warehouse, quantity = numbers[at + kind]})
      end
      if free_at(sku.numbers, at) < 0 and moved_at(sku, at) < 0 and not (reported and reported[at]) then
        reported = reported or {}
        reported[at] = true
      end
    end
  end
  for at in pairs(reported or NONE) do
    local warehouse = sku.places.names[(at - WAREHOUSE.first) / WAREHOUSE.size + 1]
    alerts.add('shortfall', sku, {warehouse = warehouse, quantity = -free_at(sku.numbers, at)})
  end
  return reported ~= nil
end

-- Whether the last change raised what is available, over all warehouses or at one.
local function has_risen(sku)
  if sku.sum > sku.sum_was then return true end
  for i = sku.logged_from + 5, log.size, 2 do
    local counter = log[i]
    local at
    if type(counter) == 'string' then
      at = log[i + 1] < 0 and sku_record.pool_place(sku, counter)
    elseif FREE_SIGN[counter % WAREHOUSE.size] * log[i + 1] > 0 then
      at = counter - counter % WAREHOUSE.size + WAREHOUSE.first
    end
    if at and moved_at(sku, at) > 0 then return true end
  end
  return false
end

-- End a change: version, the entry in the log of effects, alerts. -> whether a warehouse fell below zero
local function close(sku, cause)
  local numbers, from = sku.numbers, sku.logged_from
  numbers[SKU.version], numbers[SKU.at] = numbers[SKU.version] + 1, batch.now
  if not cause[4] then
    cause[4] = #causes
    causes[cause[4] + 1] = cause
  end
  log[from + 1], log[from + 2], log[from + 3] = sku.place, numbers[SKU.version], cause[4]
  log[from + 4] = (log.size - from - 4) / 2
  return report_negative(sku)
end

-- What follows from the last change of the SKU, each as a change of its own: held units move away from warehouses below
-- zero, then waiting orders are filled. -> whether there was anything
local function follow(sku, reroutes, fills)
  local sum_was, promised_was, from = sku.sum_was, sku.promised_was, sku.logged_from
  local has_moved = reroutes and require('reroute').run(sku)
  if has_moved then close(sku, {'reroute', '', sku.name, nil}) end
  local has_filled = (fills or has_moved) and (sku.queued or sku.filling) and require('fill').run(sku)
  if has_filled then close(sku, {'fill', '', sku.name, nil}) end
  sku.sum_was, sku.promised_was, sku.logged_from = sum_was, promised_was, from
  return has_moved or has_filled
end

-- A rise, another policy or a warehouse that fell below zero moves held units; the first two fill waiting orders.
local function follow_change(sku, has_fallen, waived)
  local is_other_policy = waived ~= nil and next(waived) ~= nil
  local fills = is_other_policy or ((sku.queued or sku.rerouting) and has_risen(sku))
  local reroutes = (has_fallen or is_other_policy or (sku.rerouting and fills))
    and require('reroute').note(sku, has_fallen or is_other_policy)
  if reroutes or (sku.queued and fills) then follow(sku, reroutes, fills) end
end

-- End one change with what follows from it; then the modes. `cause`: {kind, id, subject} and, from here, its number;
-- the subject is an order's table, or a name.
local function finish(sku, cause, waived)
  local has_fallen = close(sku, cause)
  if (sku.queued or sku.rerouting or has_fallen or waived) and not batch.fills_wait then
    follow_change(sku, has_fallen, waived)
  end
  if may_move(sku, waived) then evaluate(sku, waived) end
end

local function is_same(a, b)
  if not a or not b then return a == b end
  return a[1] == b[1] and a[2] == b[2] and a[3] == b[3] and a[4] == b[4]
end

-- Move and fill without a change before it. A record that has changed needs a version.
local function go_on(sku, fills)
  local filling, rerouting = sku.filling, sku.rerouting
  sku.sum_was, sku.promised_was, sku.logged_from = sku.sum, sku.promised, log.size
  skus.mark_dirty(sku)
  if not follow(sku, sku.rerouting, fills) then
    if filling == sku.filling and is_same(rerouting, sku.rerouting) then return end
    skus.begin(sku)
    close(sku, {is_same(rerouting, sku.rerouting) and 'fill' or 'reroute', '', sku.name, nil})
  end
  evaluate(sku)
end

-- Go on with what earlier batches did not finish. -> whether there was anything
local function go_on_with_left_over()
  local left = require('left_over').some()
  for _, sku in ipairs(left or {}) do
    if not require('order_budget').has_room() then break end
    go_on(sku, sku.filling ~= nil)
  end
  return left ~= nil
end

-- Run what waited (batch.fills_wait) for the SKUs of `lines`.
local function go_on_with_lines(lines)
  for _, line in ipairs(lines) do
    local sku = skus.get(line.sku)
    local fills = sku and require('fill').is_due(sku)
    if sku and (fills or sku.rerouting) then go_on(sku, fills) end
  end
end

-- A change without deltas: a policy or a dwell changed an offer.
local function touch(sku, cause, waived)
  skus.begin(sku)
  finish(sku, cause, waived)
end

-- Whether a dwell has ended.
local function dwell_over(sku)
  if not sku.modes then return false end
  for _, side in pairs(sku.modes) do
    if side[3] ~= 0 and batch.now >= side[3] then return true end
  end
  return false
end

return {
  dwells_due = dwells_due, note_dwells = note_dwells, finish = finish,
  go_on_with_left_over = go_on_with_left_over, go_on_with_lines = go_on_with_lines, touch = touch,
  dwell_over = dwell_over,
}
