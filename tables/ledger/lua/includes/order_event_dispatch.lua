-- An event of an order -> a result {outcome, replayed, order_id, detail} (tables/ledger/records.py, Result).
-- A handler returns an outcome, whether it is a repeat, the path of the invalid field, and the reason in words. Reasons
-- against single lines are in the command's `reasons` then (includes/additions.lua).

local order_event_steps = require('order_event_steps')
local orders = require('orders')
local refusals = require('refusals')
local release = require('release')
local take_back = require('take_back')
local waiting = require('waiting')

local ORDER_EVENTS = {
  pay = {order_event_steps.pay, O.PAID}, cancel = {order_event_steps.cancel, O.CANCELLED},
  extend = {order_event_steps.extend, O.EXTENDED}, ship = {order_event_steps.ship, O.SHIPPED},
  take_back = {take_back.run, O.RETURNED},
  change = {function(order, command) return require('change').run(order, command) end, O.CHANGED},
  hold_back = {function(order, command) return require('hold_back').run(order, command) end, O.CHANGED},
  assign = {function(order, command) return require('assign').run(order, command) end, O.CHANGED},
}
local TAKEN = {
  paid = true, cancelled = true, extended = true, shipped = true, returned = true, parked = true,
  changed = true,
}

-- Events that enlarge the record (extensions, changes and those with lines) may do so up to a size: its JSON row must
-- fit into a record of 4 MiB. About 20,000 parcels of one order reach it.
local GROWING = {extend = true, change = true, hold_back = true, assign = true}
local ORDER_BYTES_GROWN_MAX = 1572864

-- An event of a placed order.
local function order_event(order, command)
  release.expire_if_due(order)
  if command.channel and command.channel ~= order.record.channel then
    return O.UNKNOWN_ORDER, false, nil, 'the order is of another channel'
  end
  local known = orders.event_of(order, command)
  if known then
    if known ~= command.fingerprint then return O.CONFLICT end
    return ORDER_EVENTS[command.kind][2], true
  end
  local outcome, replayed = waiting.known(order, command)
  if outcome then return outcome, replayed end
  if (command.lines or GROWING[command.kind]) and order.packed and #order.packed > ORDER_BYTES_GROWN_MAX then
    return O.TOO_LARGE, false, nil, 'the record of the order is as large as one may be'
  end
  local detail, why
  outcome, replayed, detail, why = ORDER_EVENTS[command.kind][1](order, command)
  if TAKEN[outcome] and not replayed and outcome ~= O.PARKED then waiting.settle(order) end
  return outcome, replayed, detail, why
end

-- An event that arrived before its order is parked under the order's key for a bounded time.
local function before_order(order, command)
  if not command.origin then return O.UNKNOWN_ORDER end
  order = order or {id = command.order_id, record = {state = 'parked', lines = {}, events = {}}}
  local outcome, replayed = waiting.known(order, command)
  if outcome then return outcome, replayed end
  local detail, why
  outcome, replayed, detail, why = waiting.park(order, command)
  if outcome == O.PARKED then orders.known[order.id] = order end
  return outcome, replayed, detail, why
end

local DONE = {
  pay = 'paid', cancel = 'cancelled', extend = 'extended', change = 'changed', hold_back = 'held back',
  assign = 'assigned units',
}

-- The detail for the dead letter.
local function refusal_detail(order, command, outcome)
  if outcome == O.CONFLICT then return 'the id is taken by an event with another body' end
  if outcome == O.ALREADY_FINAL then
    return 'the order is ' .. order.record.state .. ' and cannot be ' .. DONE[command.kind]
  end
  return outcome
end

local function run(command)
  local order = orders.get(command.order_id)
  local outcome, replayed, detail, why
  if order and order.record.approval then release.expire_if_due(order) end
  if orders.is_placed(order) then
    outcome, replayed, detail, why = order_event(order, command)
    orders.include(order)
  else
    outcome, replayed, detail, why = before_order(order, command)
  end
  if not TAKEN[outcome] then
    why = detail or why or refusal_detail(order, command, outcome)
    if command.waits_from then waiting.fail(command, outcome, why) else refusals.add(command, outcome, why) end
  end
  return {
    outcome = outcome, replayed = replayed or nil, order_id = command.order_id, detail = detail,
    reasons = command.reasons,
  }
end

return {run = run}
