-- An event of an order -> a result {outcome, replayed, order_id, detail} (tables/ledger/records.py, Result).
-- A handler returns an outcome, whether it is a repeat, the path of the invalid field, and the reason in words.

local order_event_steps = require('order_event_steps')
local orders = require('orders')
local refusals = require('refusals')
local release = require('release')
local take_back = require('take_back')
local waiting = require('waiting')

local ORDER_EVENTS = {
  pay = {order_event_steps.pay, O.PAID}, cancel = {order_event_steps.cancel, O.CANCELLED}, extend = {order_event_steps.extend, O.EXTENDED}, ship = {order_event_steps.ship, O.SHIPPED},
  take_back = {take_back.take_back, O.RETURNED},
}
local TAKEN = {
  paid = true, cancelled = true, extended = true, shipped = true, returned = true, parked = true,
}

-- Events that enlarge the record, and the size up to which they may: its JSON row must fit into a record of 4 MiB.
-- About 20,000 parcels of one order reach it.
local GROWING = {extend = true, ship = true, take_back = true}
local ORDER_BYTES_GROWN_MAX = 1572864

-- An event of a placed order.
local function order_event(o, cmd)
  release.expire_if_due(o)
  local known = orders.event_of(o, cmd)
  if known then
    if known ~= cmd.fingerprint then return O.CONFLICT end
    return ORDER_EVENTS[cmd.kind][2], true
  end
  local outcome, replayed = waiting.known(o, cmd)
  if outcome then return outcome, replayed end
  if GROWING[cmd.kind] and o.packed and #o.packed > ORDER_BYTES_GROWN_MAX then
    return O.TOO_LARGE, false, nil, 'the record of the order is as large as one may be'
  end
  local detail, why
  outcome, replayed, detail, why = ORDER_EVENTS[cmd.kind][1](o, cmd)
  if TAKEN[outcome] and not replayed and outcome ~= O.PARKED then waiting.settle(o) end
  return outcome, replayed, detail, why
end

-- An event that arrived before its order is parked under the order's key for a bounded time.
local function before_order(o, cmd)
  if not cmd.origin then return O.UNKNOWN_ORDER end
  o = o or {id = cmd.order_id, r = {state = 'parked', lines = {}, events = {}}}
  local outcome, replayed = waiting.known(o, cmd)
  if outcome then return outcome, replayed end
  local detail, why
  outcome, replayed, detail, why = waiting.park(o, cmd)
  if outcome == O.PARKED then orders.known[o.id] = o end
  return outcome, replayed, detail, why
end

local DONE = {pay = 'paid', cancel = 'cancelled', extend = 'extended'}

-- The detail for the dead letter.
local function refusal_detail(o, cmd, outcome)
  if outcome == O.CONFLICT then return 'the id is taken by an event with another body' end
  if outcome == O.ALREADY_FINAL then return 'the order is ' .. o.r.state .. ' and cannot be ' .. DONE[cmd.kind] end
  return outcome
end

local function run(cmd)
  local o = orders.get(cmd.order_id)
  local outcome, replayed, detail, why
  if orders.is_placed(o) then
    outcome, replayed, detail, why = order_event(o, cmd)
    orders.include(o)
  else
    outcome, replayed, detail, why = before_order(o, cmd)
  end
  if not TAKEN[outcome] then
    why = detail or why or refusal_detail(o, cmd, outcome)
    if cmd.waits_from then waiting.fail(cmd, outcome, why) else refusals.add(cmd, outcome, why) end
  end
  return {outcome = outcome, replayed = replayed or nil, order_id = cmd.order_id, detail = detail}
end

return {run = run}
