-- count {warehouse, at, lines = {{sku, units}, …}}: physical stock as of `at` (rules 34, 35, 41). Later movements are
-- added. Lines are independent: a line older than the newest applied count of its SKU changes nothing, and a line that
-- needs movements older than those kept is refused.
local counts = {}
do
-- Lines named in one detail; the record holds the outcome of each line.
local PATHS_MAX = 20

-- -> why a line cannot be applied, or nil
function counts.refusal(cmd, s)
  local w = cmd.warehouse
  if s and not has_room_for(s, w) then return O.TOO_LARGE end
  local counted_at = s and moves.counted_at(s, w)
  if counted_at and cmd.at < counted_at then return O.COUNT_SUPERSEDED end
  local oldest = now - (cmd.kept and move_keys.KEPT_MS or move_keys.COUNT_MS) -- `kept`: it arrived in time
  if cmd.at < oldest or cmd.at < moves.floor_of(s, w) then return O.COUNT_TOO_OLD end
end

function counts.line(cmd, cause, sku, counted)
  local s, w = get_sku(sku), cmd.warehouse
  local refusal = counts.refusal(cmd, s or nil)
  if refusal then
    local on_hand = s and count_of(s, 'on_hand', w) or 0
    return {sku = sku, quantity = counted, outcome = refusal, on_hand = on_hand ~= 0 and on_hand or nil}
  end
  s = s or new_sku(sku)
  ensure_warehouse(s, w)
  local carried, was = moves.since(s, w, cmd.at), count_of(s, 'on_hand', w)
  begin(s)
  change(s, 'on_hand', w, counted + carried - was)
  moves.set(s, 'counted', w, cmd.at)
  if sku_record.marks_of(s).floors then moves.set(s, 'floors', w, nil) end -- older counts are superseded now
  finish(s, cause)
  local result = line_result(s, sku, counted, O.COUNTED, w, was, count_of(s, 'damaged', w))
  result.carried = carried ~= 0 and carried or nil
  return result
end

-- -> the outcome of the count, and the paths of the lines that were not applied
function counts.summary(cmd, lines)
  local paths, left_out, too_old = {}, 0, false
  for i, line in ipairs(lines) do
    if line.outcome ~= O.COUNTED then
      left_out = left_out + 1
      too_old = too_old or line.outcome == O.COUNT_TOO_OLD
      if #paths < PATHS_MAX then paths[#paths + 1] = 'lines[' .. (i - 1) .. '].sku' end
    end
  end
  if left_out == 0 then return O.COUNTED end
  local detail = table.concat(paths, ', ') .. (left_out > #paths and ' and ' .. left_out - #paths .. ' more' or '')
  if too_old and cmd.at < now - move_keys.COUNT_MS and left_out == #lines then detail = 'occurred_at' end
  if too_old then refuse(cmd, O.COUNT_TOO_OLD, detail) end
  if left_out < #lines then return O.COUNTED_IN_PART, detail end
  local outcome = lines[1].outcome
  return outcome, outcome ~= O.COUNT_SUPERSEDED and detail or nil
end
end
