-- A movement -> a result {outcome, replayed, warehouse, id, detail} (tables/ledger/records.py, Result).
local MOVEMENTS, outcome_of, on_movement
do
MOVEMENTS = {
  receive = {receive, O.RECEIVED}, adjust = {adjust, O.ADJUSTED}, count = {counts.line, O.COUNTED},
  transfer = {transfer, O.TRANSFERRED},
}

local ROOMY_BYTES = 32000 -- a shorter record of a SKU has room for another warehouse: each takes 16 bytes and its name

-- The path of the first line whose SKU has no room for another warehouse.
local function line_without_room(cmd)
  local is_long = #cmd.lines > limits.lines_per_step
  for i, line in ipairs(cmd.lines) do
    local has_room = is_long and redis.call('STRLEN', KEYS[1] .. 'sku:' .. line[1]) < ROOMY_BYTES
    local s = not has_room and get_sku(line[1])
    if s and not (has_room_for(s, cmd.warehouse) and (not cmd.to_warehouse or has_room_for(s, cmd.to_warehouse))) then
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
      local is_known = skus[line[1]] or redis.call('EXISTS', KEYS[1] .. 'sku:' .. line[1]) == 1
      if not is_known then return O.UNKNOWN_SKU, 'lines[' .. (i - 1) .. '].sku' end
      -- Units leave `damaged` only if they were recorded there.
      local s = cmd.reason == 'damages' and line[2] > 0 and get_sku(line[1])
      if s and line[2] > math.max(0, count_of(s, 'damaged', cmd.warehouse)) then
        return O.MORE_THAN_DAMAGED, 'lines[' .. (i - 1) .. '].quantity'
      end
    end
  end
end

-- -> `taken` if any line has it, else the outcome that all lines share
function outcome_of(lines, taken)
  for _, line in ipairs(lines) do
    if line.outcome == taken then return taken end
  end
  return lines[1].outcome
end

-- Apply the next lines of a movement whose lines may all be applied; those of a long one take several calls.
local function apply_lines(cmd, m, result)
  local r = m.r
  local lines, names, cause = r.lines or {}, {}, {cmd.kind, cmd.id, cmd.warehouse}
  local first, last = #lines + 1, math.min(#cmd.lines, #lines + limits.lines_per_step)
  for i = first, last do names[#names + 1] = cmd.lines[i][1] end
  fetch_skus(names)
  for i = first, last do lines[i] = MOVEMENTS[cmd.kind][1](cmd, cause, cmd.lines[i][1], cmd.lines[i][2]) end
  m.changed, m.packed, r.lines, r.applied_at = true, nil, lines, now
  if last < #cmd.lines then
    r.outcome = O.APPLYING
  elseif cmd.kind == 'count' then
    r.outcome, r.detail = counts.summary(cmd, lines)
  else
    r.outcome = outcome_of(lines, MOVEMENTS[cmd.kind][2])
  end
  movements_included[#movements_included + 1] = m
  result.outcome, result.detail = r.outcome, r.detail
  return result
end

function on_movement(cmd)
  if cmd.parts then return counts.add_part(cmd) end
  local result = {warehouse = cmd.warehouse, id = cmd.id}
  local m = get_movement(cmd.warehouse, cmd.id)
  if m and m.r.outcome == O.APPLYING and m.r.fingerprint == cmd.fingerprint then
    cmd.kept = true
    return apply_lines(cmd, m, result)
  end
  if m then
    movements_included[#movements_included + 1] = m
    if m.r.fingerprint == cmd.fingerprint then
      result.outcome, result.replayed, result.detail = m.r.outcome, true, m.r.detail
    else
      result.outcome = O.CONFLICT
      refuse(cmd, O.CONFLICT, 'the id is taken by a movement with another body')
    end
    return result
  end
  if (cmd.received_at or 0) > 0 and cmd.received_at < now - limits.movement_retention_ms then
    refuse(cmd, O.TOO_OLD, 'its id may have been forgotten already')
    result.outcome = O.TOO_OLD
    return result
  end
  if is_ahead(cmd) then -- no record: the id stays free for the corrected body (rule 44)
    refuse(cmd, O.OCCURRED_IN_FUTURE, 'occurred_at')
    result.outcome, result.detail = O.OCCURRED_IN_FUTURE, 'occurred_at'
    return result
  end
  local outcome, detail = movement_refusal(cmd)
  m = {warehouse = cmd.warehouse, id = cmd.id, changed = true, r = {
    kind = cmd.kind, outcome = outcome, fingerprint = cmd.fingerprint, at = cmd.at, applied_at = now, detail = detail,
    reason = cmd.reason, to_warehouse = cmd.to_warehouse, lines = {},
  }}
  movements[movement_key(cmd.warehouse, cmd.id)] = m
  if not outcome then return apply_lines(cmd, m, result) end
  refuse(cmd, outcome, detail)
  movements_included[#movements_included + 1] = m
  result.outcome, result.detail = outcome, detail
  return result
end

end
