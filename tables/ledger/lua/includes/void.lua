-- void {warehouse, movement_id}: reverse a receipt, an adjustment or a transfer of the warehouse once, by its effects
-- (rule 54): all of its lines or none. The reversal is dated as the movement, so that a late count carries both or
-- neither. One of more than 256 lines takes several calls: first its lines are checked, then reversed.

local batch = require('batch')
local history = require('history')
local modes = require('modes')
local movement_steps = require('movement_steps')
local movements = require('movements')
local prefetch = require('prefetch')
local refusals = require('refusals')
local skus = require('skus')

local VOIDABLE = {
  receive = {[O.RECEIVED] = true, [O.ALREADY_COUNTED] = true},
  adjust = {[O.ADJUSTED] = true, [O.ALREADY_COUNTED] = true},
  transfer = {[O.TRANSFERRED] = true, [O.ALREADY_COUNTED] = true},
}

-- Whether units of a line arrived at the movement's other warehouse.
local function arrived(line) return line.outcome == O.TRANSFERRED and not line.arrival_counted end

local function has_effect(line) return line.change or line.damaged or arrived(line) end

local function refusal(command)
  local movement = movements.get(command.warehouse, command.movement_id)
  if not movement then return O.UNKNOWN_MOVEMENT, 'movement_id' end
  local record = movement.record
  local outcomes = VOIDABLE[record.kind]
  if not outcomes or not outcomes[record.outcome] then return O.NOT_VOIDABLE, 'movement_id' end
  if record.voided_by then return O.ALREADY_VOIDED, 'movement_id' end
  if record.outcome ~= O.ALREADY_COUNTED then return nil end
  for _, line in ipairs(record.lines) do
    if has_effect(line) then return nil end
  end
  return O.ALREADY_COUNTED, 'movement_id'
end

-- Whether a count as of the time `at` or later was applied.
local function is_counted(sku, warehouse, at)
  local counted_at = history.counted_at_of(sku, warehouse)
  return counted_at and counted_at >= at
end

-- -> why a line of the movement `target` cannot be reversed, or nil
local function line_refusal(warehouse, target, line)
  local sku = skus.get(line.sku)
  if not sku then return nil end
  if (line.change and is_counted(sku, warehouse, target.at))
    or (arrived(line) and is_counted(sku, target.to_warehouse, target.at)) then
    return O.ALREADY_COUNTED
  end
  -- Units go back on the shelf only if they are among the damaged ones still.
  local damaged = target.reason == 'damages' and line.damaged or 0
  if damaged > math.max(0, skus.count_of(sku, 'damaged', warehouse)) then return O.MORE_THAN_DAMAGED end
end

local function reverse(warehouse, cause, target, line)
  local sku = skus.get_or_new(line.sku)
  skus.ensure_warehouse(sku, warehouse)
  local was, was_damaged = skus.count_of(sku, 'on_hand', warehouse), skus.count_of(sku, 'damaged', warehouse)
  local outcome = line.outcome == O.ALREADY_COUNTED and O.ALREADY_COUNTED or O.VOIDED
  -- A receipt counted for its announcement where its record has no detail (expected_receipts.lua).
  local is_announced = target.expected_id and not target.detail
  if has_effect(line) or is_announced then
    local is_open = true -- false if a count came between the steps
    skus.begin(sku)
    if line.change then is_open = history.move_on_hand(sku, warehouse, -line.change, target.at) end
    if arrived(line) then
      skus.ensure_warehouse(sku, target.to_warehouse)
      is_open = history.move_on_hand(sku, target.to_warehouse, -line.quantity, target.at) and is_open
    end
    skus.change(sku, 'damaged', warehouse, -(line.damaged or 0))
    if is_announced then
      local receipt = {warehouse = warehouse, expected_id = target.expected_id}
      require('expected_receipts').receive(receipt, sku, -line.quantity)
    end
    modes.finish(sku, cause)
    if has_effect(line) then outcome = is_open and O.VOIDED or O.ALREADY_COUNTED end
  end
  return movement_steps.line_result(sku, line.sku, line.quantity, outcome, warehouse, was, was_damaged)
end

-- The index of the last line of the step that begins at line `first`, whose SKUs are in memory then.
local function read_from(lines, first)
  local names = {}
  for i = first, #lines do names[#names + 1] = lines[i].sku end
  if #lines > batch.limits.lines_per_step then
    names = prefetch.names_within('sku:', names, batch.limits.step_bytes_max)
  end
  prefetch.skus_named(names)
  return first + #names - 1
end

local function put(movement)
  movement.changed, movement.packed = true, nil
  movements.included[#movements.included + 1] = movement
end

-- Check the next lines. -> a refusal; `record.checked` is nil once all lines are checked
local function check(command, record, target)
  local first = (record.checked or 0) + 1
  local last = read_from(target.lines, first)
  for i = first, last do
    local why = line_refusal(command.warehouse, target, target.lines[i])
    if why then return why end
  end
  record.checked = last < #target.lines and last or nil
end

local function apply(command, record, voided)
  local target, lines = voided.record, record.lines
  local last, cause = read_from(target.lines, #lines + 1), {'void', command.id, command.warehouse}
  for i = #lines + 1, last do lines[i] = reverse(command.warehouse, cause, target, target.lines[i]) end
  if not target.voided_by then
    target.voided_by = command.id
    put(voided)
  end
  record.outcome = last < #target.lines and O.APPLYING or O.VOIDED
end

-- The first or the next step of a void that `refusal` lets through. -> its result
local function step(command, movement, result)
  local record, voided = movement.record, movements.get(command.warehouse, command.movement_id)
  local is_checking, why = record.checked or not record.outcome, nil
  record.lines = record.lines or {}
  if not voided then
    why = O.UNKNOWN_MOVEMENT -- an operator removed it between the steps
  elseif is_checking then
    why = check(command, record, voided.record)
  end
  if why then
    record.outcome, record.detail, record.checked = why, 'movement_id', nil
    refusals.add(command, why, record.detail)
  elseif is_checking and #voided.record.lines > batch.limits.lines_per_step then
    record.outcome = O.APPLYING
  else
    apply(command, record, voided)
  end
  record.applied_at = batch.now
  put(movement)
  result.outcome, result.detail = record.outcome, record.detail
  return result
end

return {refusal = refusal, step = step}
