-- Movements of a warehouse: receive, adjust, transfer. Each id applies once; a rejected line rejects all (34).

local history = require('history')
local modes = require('modes')
local skus = require('skus')

-- -> the record of one line of a movement at `warehouse`
local function line_result(sku, sku_name, units, outcome, warehouse, was, was_damaged)
  local on_hand, damaged = skus.count_of(sku, 'on_hand', warehouse), skus.count_of(sku, 'damaged', warehouse)
  local zero_is_nil = function(value) return value ~= 0 and value or nil end
  return {
    sku = sku_name, quantity = units, outcome = outcome, on_hand = zero_is_nil(on_hand),
    change = zero_is_nil(on_hand - was), damaged = zero_is_nil(damaged - was_damaged),
  }
end

local function receive(command, cause, sku_name, units)
  local sku, warehouse = skus.get_or_new(sku_name), command.warehouse
  skus.ensure_warehouse(sku, warehouse)
  local was, was_damaged = skus.count_of(sku, 'on_hand', warehouse), skus.count_of(sku, 'damaged', warehouse)
  skus.begin(sku)
  local moved = history.move_on_hand(sku, warehouse, units, command.at)
  if command.expected_id then require('expected_receipts').receive(command, sku, units) end
  modes.finish(sku, cause)
  return line_result(sku, sku_name, units, moved and O.RECEIVED or O.ALREADY_COUNTED, warehouse, was, was_damaged)
end

-- `damages` moves units between on_hand and damaged; `scrapped` lowers damaged; other reasons change on_hand.
local function adjust(command, cause, sku_name, units)
  local sku, warehouse = skus.get_or_new(sku_name), command.warehouse
  skus.ensure_warehouse(sku, warehouse)
  local was, was_damaged = skus.count_of(sku, 'on_hand', warehouse), skus.count_of(sku, 'damaged', warehouse)
  local moved = true
  skus.begin(sku)
  if command.reason == 'scrapped' then
    skus.change(sku, 'damaged', warehouse, units)
  else
    if units ~= 0 then moved = history.move_on_hand(sku, warehouse, units, command.at) end
    if command.reason == 'damages' then skus.change(sku, 'damaged', warehouse, -units) end
  end
  modes.finish(sku, cause)
  return line_result(sku, sku_name, units, moved and O.ADJUSTED or O.ALREADY_COUNTED, warehouse, was, was_damaged)
end

-- The holds stay with the source, which may go negative (rule 36).
local function transfer(command, cause, sku_name, units)
  local sku, warehouse = skus.get_or_new(sku_name), command.warehouse
  skus.ensure_warehouse(sku, warehouse)
  skus.ensure_warehouse(sku, command.to_warehouse)
  local was = skus.count_of(sku, 'on_hand', warehouse)
  skus.begin(sku)
  local left = history.move_on_hand(sku, warehouse, -units, command.at)
  local arrived = history.move_on_hand(sku, command.to_warehouse, units, command.at)
  modes.finish(sku, cause)
  local outcome = (left or arrived) and O.TRANSFERRED or O.ALREADY_COUNTED
  local result = line_result(sku, sku_name, units, outcome, warehouse, was, skus.count_of(sku, 'damaged', warehouse))
  result.arrival_counted = left and not arrived or nil
  return result
end

return {line_result = line_result, receive = receive, adjust = adjust, transfer = transfer}
