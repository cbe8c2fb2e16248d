-- A movement -> a result {outcome, replayed, warehouse, id, detail} (tables/ledger/records.py, Result).

local batch = require('batch')
local count = require('count')
local count_parts = require('count_parts')
local movement_steps = require('movement_steps')
local movements = require('movements')
local pool_movements = require('pool_movements')
local prefetch = require('prefetch')
local refusals = require('refusals')
local skus = require('skus')

local MOVEMENTS = {
  receive = {movement_steps.receive, O.RECEIVED}, adjust = {movement_steps.adjust, O.ADJUSTED},
  count = {count.line, O.COUNTED}, transfer = {movement_steps.transfer, O.TRANSFERRED},
  reserve = {pool_movements.reserve, O.RESERVED}, release = {pool_movements.release, O.RELEASED},
}

local ROOMY_BYTES = 32000 -- a shorter record of a SKU has room for another warehouse: each takes 16 bytes and its name

-- The path of the first line whose SKU has no room for another warehouse.
local function line_without_room(command)
  local is_long, to = #command.lines > batch.limits.lines_per_step, command.to_warehouse
  for i, line in ipairs(command.lines) do
    local has_room = is_long and redis.call('STRLEN', KEYS[1] .. 'sku:' .. line[1]) < ROOMY_BYTES
    local sku = not has_room and skus.get(line[1])
    if sku and not (skus.has_room_for(sku, command.warehouse) and (not to or skus.has_room_for(sku, to))) then
      return 'lines[' .. (i - 1) .. '].sku'
    end
  end
end

local function movement_refusal(command)
  if command.kind == 'void' then return require('void').refusal(command) end
  if command.kind == 'count' then return nil end -- its lines are independent
  if command.kind == 'expect' then return require('expected').refusal(command) end
  if command.purpose then return pool_movements.refusal(command) end
  local crowded = line_without_room(command)
  if crowded then return O.TOO_LARGE, crowded end
  if command.kind == 'adjust' then
    for i, line in ipairs(command.lines) do
      local is_known = skus.known[line[1]] or redis.call('EXISTS', KEYS[1] .. 'sku:' .. line[1]) == 1
      if not is_known then return O.UNKNOWN_SKU, 'lines[' .. (i - 1) .. '].sku' end
      -- Units leave `damaged` only if they were recorded there.
      local sku = command.reason == 'damages' and line[2] > 0 and skus.get(line[1])
      if sku and line[2] > math.max(0, skus.count_of(sku, 'damaged', command.warehouse)) then
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

-- Apply the next lines of a movement whose lines may all be applied. A long one takes several calls if the records of
-- its SKUs are large.
local function apply_lines(command, movement, result)
  local record = movement.record
  if command.kind == 'expect' then
    local expected = require('expected')
    return (record.eta and expected.apply or expected.announce)(command, movement, result)
  end
  local lines, names, cause = record.lines or {}, {}, {command.kind, command.id, command.warehouse}
  local first = #lines + 1
  for i = first, #command.lines do names[#names + 1] = command.lines[i][1] end
  if command.expected_id then
    names = require('announcements').of_step(names)
  elseif #names > batch.limits.lines_per_step and not command.purpose then
    names = prefetch.names_within('sku:', names, batch.limits.step_bytes_max)
  end
  local last = first + #names - 1
  prefetch.skus_named(names)
  local apply = MOVEMENTS[command.kind][1]
  for i = first, last do lines[i] = apply(command, cause, command.lines[i][1], command.lines[i][2]) end
  movement.changed, movement.packed, record.lines, record.applied_at = true, nil, lines, batch.now
  if last < #command.lines then
    record.outcome = O.APPLYING
  elseif command.kind == 'count' then
    record.outcome, record.detail = count.summary(command, lines)
  else
    record.outcome = outcome_of(lines, MOVEMENTS[command.kind][2])
    if command.expected_id then record.detail = require('expected_receipts').detail_of(command) end
  end
  movements.included[#movements.included + 1] = movement
  result.outcome, result.detail = record.outcome, record.detail
  return result
end

-- Apply a movement, or its next lines. -> its result
local function apply(command, movement, result)
  if command.kind == 'void' then return require('void').step(command, movement, result) end
  return apply_lines(command, movement, result)
end

local function run(command)
  if command.parts then return count_parts.add(command) end
  local result = {warehouse = command.warehouse, id = command.id}
  local movement = movements.get(command.warehouse, command.id)
  if movement and movement.record.outcome == O.APPLYING and movement.record.fingerprint == command.fingerprint then
    command.kept = true
    return apply(command, movement, result)
  end
  local is_announced = movement and command.kind == 'expect' and movement.record.kind == 'expect'
  if is_announced and movement.record.at ~= command.at then
    return require('expected').amend(command, movement, result)
  end
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
  movement = {warehouse = command.warehouse, id = command.id, changed = true, record = {
    kind = command.kind, outcome = outcome, fingerprint = command.fingerprint, at = command.at, applied_at = batch.now,
    detail = detail, reason = command.reason, to_warehouse = command.to_warehouse, expected_id = command.expected_id,
    voids = command.movement_id, purpose = command.purpose, lines = {},
  }}
  movements.known[movements.key_of(command.warehouse, command.id)] = movement
  if not outcome then return apply(command, movement, result) end
  refusals.add(command, outcome, detail)
  movements.included[#movements.included + 1] = movement
  result.outcome, result.detail = outcome, detail
  return result
end

return {run = run}
