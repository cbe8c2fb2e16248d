-- change {remove = {{sku, units}, …}, add = {{sku, units}, …}}: an exchange (rule 52). In one step units that are not
-- shipped go back, and the channel's rules decide the added ones. If one is refused, nothing changes.

local additions = require('additions')
local batch = require('batch')
local modes = require('modes')
local order_event_steps = require('order_event_steps')
local orders = require('orders')
local place = require('place')
local release = require('release')
local rollback = require('rollback')

-- The contract's limits of an order (streams/contract/events.py).
local LINES_MAX, QUANTITY_MAX = 2000, 1000000

-- -> what `additions` holds: a SKU that the order does not have gets a new line
local function wanted_of(order, add)
  local wanted = {}
  for i, each in ipairs(add) do
    local line = orders.line_of(order, each[1]) or {sku = each[1], quantity = 0, state = 'rejected'}
    wanted[i] = {line = line, place = i - 1, sku = each[1], units = each[2]}
  end
  return wanted
end

-- -> nil, or a refusal and its path
local function too_large(order, wanted)
  local lines = #order.record.lines
  for _, each in ipairs(wanted) do
    local path = 'add[' .. each.place .. ']'
    if each.line.quantity == 0 then lines = lines + 1 end
    if lines > LINES_MAX then return O.TOO_LARGE, path .. '.sku' end
    if each.line.quantity + each.units > QUANTITY_MAX then return O.TOO_LARGE, path .. '.quantity' end
  end
end

-- Count the wanted units as ordered; the order gets its new lines. A line that was refused begins anew.
local function order_more(order, wanted)
  for _, each in ipairs(wanted) do
    local line, lines = each.line, order.record.lines
    if line.quantity == 0 then lines[#lines + 1] = line end
    if line.state == 'rejected' then line.quantity, line.reason = 0, nil end
    line.quantity = line.quantity + each.units
  end
  order.indexed = nil
end

-- -> the lines of `remove` whose SKUs are added too, and the others
local function split(remove, add)
  local is_added, shared, others = {}, {}, {}
  for _, each in ipairs(add) do is_added[each[1]] = true end
  for _, each in ipairs(remove) do
    local list = is_added[each[1]] and shared or others
    list[#list + 1] = {each[1], each[2], sku = each[1]}
  end
  return shared, others
end

-- -> nil, or the reasons against the added lines. What is decided of a SKU depends on no other, so only removed units
-- of SKUs that are added too go back before the decision.
local function exchange(order, command)
  local cause, add = {'change', command.id, order}, command.add or {}
  local shared, others = split(command.remove or {}, add)
  local saved = #shared > 0 and rollback.save(order, shared)
  batch.fills_wait = true -- until the added units are held
  release.cancel_lines(order, shared, cause)
  local wanted = wanted_of(order, add)
  local freed = 0
  for _, each in ipairs(others) do freed = freed + each[2] end
  local planned, reasons = additions.plan(order, wanted, freed)
  if not planned then
    batch.fills_wait = false
    if saved then rollback.restore(saved) end
    return reasons
  end
  orders.mark_changed(order)
  release.cancel_lines(order, others, cause)
  order_more(order, wanted)
  additions.hold(order, wanted, planned, cause)
  batch.fills_wait = false
  modes.go_on_with_lines(shared)
  modes.go_on_with_lines(others)
end

local function run(order, command)
  local state, wanted = order.record.state, wanted_of(order, command.add or {})
  if state ~= 'reserved' and state ~= 'paid' then return O.ALREADY_FINAL end
  local refusal, path = order_event_steps.more_than_open(order, command.remove or {}, 'remove')
  if not refusal then refusal, path = too_large(order, wanted) end
  if refusal then return refusal, false, path end
  place.end_dwells(wanted)
  local reasons = exchange(order, command)
  if reasons then
    command.reasons = reasons
    return reasons[2], false, nil, 'not all of it can be held: ' .. additions.reasons_text(reasons, 'add')
  end
  orders.record_event(order, command)
  release.finish_change(order)
  return O.CHANGED
end

return {run = run}
