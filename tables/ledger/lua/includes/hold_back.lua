-- hold_back {sku, held, reason, actor}: fills pass over the waiting lines of an order, or one of them, until they are
-- released (`held` false). They leave the queue, and come back to their place in it.

local actions = require('actions')
local modes = require('modes')
local orders = require('orders')
local queue = require('queue')

local function mark(order, line, held)
  local held_back = order.record.held_back or {}
  held_back[line.sku] = held or nil
  order.record.held_back = next(held_back) ~= nil and held_back or nil
  queue.changed(order, line)
end

-- The lines that are to be held back, or released.
local function lines_of(order, command, held)
  local lines = {}
  for _, line in ipairs(order.record.lines) do
    local is_meant = line.sku == command.sku
    if not command.sku then is_meant = not held or line.preordered ~= nil or line.short ~= nil end
    if is_meant and actions.is_held_back(order, line) ~= held then lines[#lines + 1] = line end
  end
  return lines
end

local function run(order, command)
  local state, held = order.record.state, command.held ~= false
  if state ~= 'reserved' and state ~= 'paid' then return O.ALREADY_FINAL end
  if command.sku and not orders.line_of(order, command.sku) then return O.NOT_IN_ORDER, false, 'sku' end
  orders.record_event(order, command)
  local lines, before, after = lines_of(order, command, held), {}, {}
  for i, line in ipairs(lines) do
    before[i] = actions.describe(order, line)
    mark(order, line, held)
    after[i] = actions.describe(order, line)
  end
  actions.note(held and 'held_back' or 'released', order, command, before, after)
  orders.advance_sequence(order)
  if not held then modes.go_on_with_lines(lines) end
  return O.CHANGED
end

return {run = run}
