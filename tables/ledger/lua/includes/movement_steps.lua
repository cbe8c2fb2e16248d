-- Movements of a warehouse: receive, adjust, transfer. Each id applies once; a rejected line rejects all (34).
-- -> the record of one line of a movement at `w`

local history = require('history')
local modes = require('modes')
local skus = require('skus')

local function line_result(s, sku, n, outcome, w, was, was_damaged)
  local on_hand, damaged = skus.count_of(s, 'on_hand', w), skus.count_of(s, 'damaged', w)
  local zero_is_nil = function(value) return value ~= 0 and value or nil end
  return {
    sku = sku, quantity = n, outcome = outcome, on_hand = zero_is_nil(on_hand), change = zero_is_nil(on_hand - was),
    damaged = zero_is_nil(damaged - was_damaged),
  }
end

local function receive(cmd, cause, sku, n)
  local s, w = skus.get_or_new(sku), cmd.warehouse
  skus.ensure_warehouse(s, w)
  local was, was_damaged = skus.count_of(s, 'on_hand', w), skus.count_of(s, 'damaged', w)
  skus.begin(s)
  local moved = history.move_on_hand(s, w, n, cmd.at)
  modes.finish(s, cause)
  return line_result(s, sku, n, moved and O.RECEIVED or O.ALREADY_COUNTED, w, was, was_damaged)
end

-- `damages` moves units between on_hand and damaged; `scrapped` lowers damaged; other reasons change on_hand.
local function adjust(cmd, cause, sku, n)
  local s, w = skus.get(sku), cmd.warehouse
  skus.ensure_warehouse(s, w)
  local was, was_damaged = skus.count_of(s, 'on_hand', w), skus.count_of(s, 'damaged', w)
  local moved = true
  skus.begin(s)
  if cmd.reason == 'scrapped' then
    skus.change(s, 'damaged', w, n)
  else
    if n ~= 0 then moved = history.move_on_hand(s, w, n, cmd.at) end
    if cmd.reason == 'damages' then skus.change(s, 'damaged', w, -n) end
  end
  modes.finish(s, cause)
  return line_result(s, sku, n, moved and O.ADJUSTED or O.ALREADY_COUNTED, w, was, was_damaged)
end

-- The holds stay with the source, which may go negative (rule 36).
local function transfer(cmd, cause, sku, n)
  local s, w = skus.get_or_new(sku), cmd.warehouse
  skus.ensure_warehouse(s, w)
  skus.ensure_warehouse(s, cmd.to_warehouse)
  local was = skus.count_of(s, 'on_hand', w)
  skus.begin(s)
  local left = history.move_on_hand(s, w, -n, cmd.at)
  local arrived = history.move_on_hand(s, cmd.to_warehouse, n, cmd.at)
  modes.finish(s, cause)
  local outcome = (left or arrived) and O.TRANSFERRED or O.ALREADY_COUNTED
  return line_result(s, sku, n, outcome, w, was, skus.count_of(s, 'damaged', w))
end

return {line_result = line_result, receive = receive, adjust = adjust, transfer = transfer}
