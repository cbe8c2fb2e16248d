-- A movement -> a result {outcome, replayed, warehouse, id, detail} (tables/ledger/records.py, Result).

local batch = require('batch')
local count = require('count')
local count_parts = require('count_parts')
local movement_steps = require('movement_steps')
local movements = require('movements')
local refusals = require('refusals')
local skus = require('skus')

local MOVEMENTS = {
  receive = {movement_steps.receive, O.RECEIVED}, adjust = {movement_steps.adjust, O.ADJUSTED}, count = {count.line, O.COUNTED},
  transfer = {movement_steps.transfer, O.TRANSFERRED},
}

-- The path of the first line whose SKU has no room for another warehouse.
local function line_without_room(cmd)
  for i, line in ipairs(cmd.lines) do
    local s = skus.get(line[1])
    if s and not (skus.has_room_for(s, cmd.warehouse) and (not cmd.to_warehouse or skus.has_room_for(s, cmd.to_warehouse))) then
      return 'lines[' .. (i - 1) .. '].sku'
    end
  end
end

local function movement_refusal(cmd)
  if cmd.kind == 'count' then return nil end -- its lines are independent
  local crowded = line_without_room(cmd)
  if crowded then return O.TOO_LARGE, crowded end
  if cmd.kind == 'adjust' then
    for i, line in ipairs(cmd.lines) do
      local s = skus.get(line[1])
      if not s then return O.UNKNOWN_SKU, 'lines[' .. (i - 1) .. '].sku' end
      -- Units leave `damaged` only if they were recorded there.
      if cmd.reason == 'damages' and line[2] > math.max(0, skus.count_of(s, 'damaged', cmd.warehouse)) then
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

local function run(cmd)
  if cmd.parts then return count_parts.add(cmd) end
  local result = {warehouse = cmd.warehouse, id = cmd.id}
  local m = movements.get(cmd.warehouse, cmd.id)
  if m then
    movements.included[#movements.included + 1] = m
    if m.r.fingerprint == cmd.fingerprint then
      result.outcome, result.replayed, result.detail = m.r.outcome, true, m.r.detail
    else
      result.outcome = O.CONFLICT
      refusals.add(cmd, O.CONFLICT, 'the id is taken by a movement with another body')
    end
    return result
  end
  if (cmd.received_at or 0) > 0 and cmd.received_at < batch.now - batch.limits.movement_retention_ms then
    refusals.add(cmd, O.TOO_OLD, 'its id may have been forgotten already')
    result.outcome = O.TOO_OLD
    return result
  end
  if refusals.is_ahead(cmd) then -- no record: the id stays free for the corrected body (rule 44)
    refusals.add(cmd, O.OCCURRED_IN_FUTURE, 'occurred_at')
    result.outcome, result.detail = O.OCCURRED_IN_FUTURE, 'occurred_at'
    return result
  end
  local outcome, detail = movement_refusal(cmd)
  local lines = {}
  if outcome then
    refusals.add(cmd, outcome, detail)
  else
    local cause = {cmd.kind, cmd.id, cmd.warehouse}
    for i, line in ipairs(cmd.lines) do lines[i] = MOVEMENTS[cmd.kind][1](cmd, cause, line[1], line[2]) end
    if cmd.kind == 'count' then
      outcome, detail = count.summary(cmd, lines)
    else
      outcome = outcome_of(lines, MOVEMENTS[cmd.kind][2])
    end
  end
  m = {warehouse = cmd.warehouse, id = cmd.id, changed = true, r = {
    kind = cmd.kind, outcome = outcome, fingerprint = cmd.fingerprint, at = cmd.at, applied_at = batch.now, detail = detail,
    reason = cmd.reason, to_warehouse = cmd.to_warehouse, lines = lines,
  }}
  movements.known[movements.key_of(cmd.warehouse, cmd.id)] = m
  movements.included[#movements.included + 1] = m
  result.outcome, result.detail = outcome, detail
  return result
end

return {run = run}
