-- count {warehouse, at, lines = {{sku, units}, …}}: physical stock as of `at` (rules 34, 35, 41). Later movements are
-- added. Lines are independent: a line older than the newest applied count of its SKU changes nothing, and a line that
-- needs movements older than those kept is refused.

local batch = require('batch')
local history = require('history')
local modes = require('modes')
local move_keys = require('move_keys')
local movement_steps = require('movement_steps')
local refusals = require('refusals')
local sku_record = require('sku_record')
local skus = require('skus')

-- Lines named in one detail; the record holds the outcome of each line.
local PATHS_MAX = 20

-- -> why a line cannot be applied, or nil
local function refusal_of(command, sku)
  local warehouse = command.warehouse
  if sku and not skus.has_room_for(sku, warehouse) then return O.TOO_LARGE end
  local counted_at = sku and history.counted_at_of(sku, warehouse)
  if counted_at and command.at < counted_at then return O.COUNT_SUPERSEDED end
  local oldest = batch.now - (command.kept and move_keys.KEPT_MS or move_keys.COUNT_MS) -- `kept`: it arrived in time
  if command.at < oldest or command.at < history.floor_of(sku, warehouse) then return O.COUNT_TOO_OLD end
end

local function line(command, cause, sku_name, counted)
  local sku, warehouse = skus.get(sku_name), command.warehouse
  local refusal = refusal_of(command, sku or nil)
  if refusal then
    local on_hand = sku and skus.count_of(sku, 'on_hand', warehouse) or 0
    return {sku = sku_name, quantity = counted, outcome = refusal, on_hand = on_hand ~= 0 and on_hand or nil}
  end
  sku = sku or skus.new(sku_name)
  skus.ensure_warehouse(sku, warehouse)
  local carried, was = history.moved_since(sku, warehouse, command.at), skus.count_of(sku, 'on_hand', warehouse)
  skus.begin(sku)
  skus.change(sku, 'on_hand', warehouse, counted + carried - was)
  history.set_mark(sku, 'counted', warehouse, command.at)
  -- Older counts are superseded now.
  if sku_record.marks_of(sku).floors then history.set_mark(sku, 'floors', warehouse, nil) end
  modes.finish(sku, cause)
  local damaged = skus.count_of(sku, 'damaged', warehouse)
  local result = movement_steps.line_result(sku, sku_name, counted, O.COUNTED, warehouse, was, damaged)
  result.carried = carried ~= 0 and carried or nil
  return result
end

-- -> the outcome of the count, and the paths of the lines that were not applied
local function summary(command, lines)
  local paths, left_out, too_old = {}, 0, false
  for i, each in ipairs(lines) do
    if each.outcome ~= O.COUNTED then
      left_out = left_out + 1
      too_old = too_old or each.outcome == O.COUNT_TOO_OLD
      if #paths < PATHS_MAX then paths[#paths + 1] = 'lines[' .. (i - 1) .. '].sku' end
    end
  end
  if left_out == 0 then return O.COUNTED end
  local detail = table.concat(paths, ', ') .. (left_out > #paths and ' and ' .. left_out - #paths .. ' more' or '')
  if too_old and command.at < batch.now - move_keys.COUNT_MS and left_out == #lines then detail = 'occurred_at' end
  if too_old then refusals.add(command, O.COUNT_TOO_OLD, detail) end
  if left_out < #lines then return O.COUNTED_IN_PART, detail end
  local outcome = lines[1].outcome
  return outcome, outcome ~= O.COUNT_SUPERSEDED and detail or nil
end

return {line = line, summary = summary}
