-- A movement -> a result {outcome, replayed, warehouse, id, detail} (tables/ledger/records.py, Result).

local batch = require('batch')
local count = require('count')
local count_parts = require('count_parts')
local movement_steps = require('movement_steps')
local movements = require('movements')
local refusals = require('refusals')
local skus = require('skus')

local MOVEMENTS = {
  receive = {movement_steps.receive, O.RECEIVED}, adjust = {movement_steps.adjust, O.ADJUSTED},
  count = {count.line, O.COUNTED}, transfer = {movement_steps.transfer, O.TRANSFERRED},
}

-- The path of the first line whose SKU has no room for another warehouse.
local function line_without_room(command)
  for i, line in ipairs(command.lines) do
    local sku = skus.get(line[1])
    local to = command.to_warehouse
    if sku and not (skus.has_room_for(sku, command.warehouse) and (not to or skus.has_room_for(sku, to))) then
      return 'lines[' .. (i - 1) .. '].sku'
    end
  end
end

local function movement_refusal(command)
  if command.kind == 'count' then return nil end -- its lines are independent
  local crowded = line_without_room(command)
  if crowded then return O.TOO_LARGE, crowded end
  if command.kind == 'adjust' then
    for i, line in ipairs(command.lines) do
      local sku = skus.get(line[1])
      if not sku then return O.UNKNOWN_SKU, 'lines[' .. (i - 1) .. '].sku' end
      -- Units leave `damaged` only if they were recorded there.
      if command.reason == 'damages' and line[2] > math.max(0, skus.count_of(sku, 'damaged', command.warehouse)) then
        return O.MORE_THAN_DAMAGED, 'lines[' .. (i - 1) .. '].quantity'
      end
    end
  end
end

-- -> `taken` if any line has it, else the outcome that all lines share
local function outcome_of(lines, taken)
  for _, line in ipairs(lines) do
    if line.outcome == taken then return taken end
  end
  return lines[1].outcome
end

local function run(command)
  if command.parts then return count_parts.add(command) end
  local result = {warehouse = command.warehouse, id = command.id}
  local movement = movements.get(command.warehouse, command.id)
  if movement then
    movements.included[#movements.included + 1] = movement
    if movement.record.fingerprint == command.fingerprint then
      result.outcome, result.replayed, result.detail = movement.record.outcome, true, movement.record.detail
    else
      result.outcome = O.CONFLICT
      refusals.add(command, O.CONFLICT, 'the id is taken by a movement with another body')
    end
    return result
  end
  if (command.received_at or 0) > 0 and command.received_at < batch.now - batch.limits.movement_retention_ms then
    refusals.add(command, O.TOO_OLD, 'its id may have been forgotten already')
    result.outcome = O.TOO_OLD
    return result
  end
  if refusals.is_ahead(command) then -- no record: the id stays free for the corrected body (rule 44)
    refusals.add(command, O.OCCURRED_IN_FUTURE, 'occurred_at')
    result.outcome, result.detail = O.OCCURRED_IN_FUTURE, 'occurred_at'
    return result
  end
  local outcome, detail = movement_refusal(command)
  local lines = {}
  if outcome then
    refusals.add(command, outcome, detail)
  else
    local cause = {command.kind, command.id, command.warehouse}
    for i, line in ipairs(command.lines) do lines[i] = MOVEMENTS[command.kind][1](command, cause, line[1], line[2]) end
    if command.kind == 'count' then
      outcome, detail = count.summary(command, lines)
    else
      outcome = outcome_of(lines, MOVEMENTS[command.kind][2])
    end
  end
  movement = {warehouse = command.warehouse, id = command.id, changed = true, record = {
    kind = command.kind, outcome = outcome, fingerprint = command.fingerprint, at = command.at, applied_at = batch.now,
    detail = detail, reason = command.reason, to_warehouse = command.to_warehouse, lines = lines,
  }}
  movements.known[movements.key_of(command.warehouse, command.id)] = movement
  movements.included[#movements.included + 1] = movement
  result.outcome, result.detail = outcome, detail
  return result
end

return {run = run}
