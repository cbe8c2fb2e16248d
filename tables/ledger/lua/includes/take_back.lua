-- take_back {lines = {{sku, units, warehouse, condition}, …}}: returns of shipped units (rule 33). Any warehouse may
-- receive; damaged units raise only `damaged`. If it returns more than was shipped, the whole event is parked while
-- enough units are still to be shipped (rule 43), and refused otherwise.

local history = require('history')
local modes = require('modes')
local orders = require('orders')
local skus = require('skus')
local waiting = require('waiting')

-- -> nil if all units were shipped; 'later' if they may still be; else a refusal and its path
local function not_shipped(order, command)
  local returning, verdict = {}, nil
  for i, back in ipairs(command.lines) do
    local line = orders.line_of(order, back[1])
    if not line then return O.NOT_IN_ORDER, 'lines[' .. (i - 1) .. '].sku' end
    local sku = skus.get(back[1])
    if sku and not skus.has_room_for(sku, back[3]) then return O.TOO_LARGE, 'lines[' .. (i - 1) .. '].warehouse' end
    returning[back[1]] = (returning[back[1]] or 0) + back[2]
    local missing = (line.returned or 0) + returning[back[1]] - (line.shipped or 0)
    if missing > 0 then
      if not command.origin or missing > orders.open_units(line) then
        return O.MORE_THAN_SHIPPED, 'lines[' .. (i - 1) .. '].quantity'
      end
      verdict = 'later'
    end
  end
  return verdict
end

local function run(order, command)
  local verdict, path = not_shipped(order, command)
  if verdict == 'later' then return waiting.park(order, command) end
  if verdict then return verdict, false, path end
  orders.record_event(order, command)
  local cause, detail = {'take_back', command.id, order}, nil
  for _, back in ipairs(command.lines) do
    local line, sku, units, warehouse = orders.line_of(order, back[1]), skus.get(back[1]), back[2], back[3]
    skus.ensure_warehouse(sku, warehouse)
    skus.begin(sku)
    if back[4] == 'damaged' then
      skus.change(sku, 'damaged', warehouse, units)
    elseif not history.move_on_hand(sku, warehouse, units, command.at) then
      detail = O.ALREADY_COUNTED
    end
    modes.finish(sku, cause)
    orders.add_to(line, 'returned', units)
    local whole = line.returned == line.shipped and orders.open_units(line) == 0
    if whole and line.state == 'shipped' then line.state = 'returned' end
  end
  orders.advance_sequence(order)
  return O.RETURNED, false, detail
end

return {run = run}
