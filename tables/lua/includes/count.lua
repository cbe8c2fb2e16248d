-- count {warehouse, at, lines = {{sku, units}, …}}: what a person counted, as of `at` (rules 34, 35). Movements since
-- are carried forward; a count older than the newest applied one changes nothing; one that would need movements that
-- were forgotten is refused whole.
local function count_refusal(cmd)
  for i, line in ipairs(cmd.lines) do
    local s = get_sku(line[1])
    local h = s and history_of(s, cmd.warehouse)
    local superseded_already = h and h.counted_at and cmd.at < h.counted_at
    if h and h.floor and cmd.at < h.floor and not superseded_already then
      return O.COUNT_TOO_OLD, 'lines[' .. (i - 1) .. '].sku'
    end
  end
end

local function count(cmd, cause, sku, counted)
  local s, w = known_sku(sku), cmd.warehouse
  local h = begin_history(s, w)
  if h.counted_at and cmd.at < h.counted_at then
    local on_hand = count_of(s, 'on_hand', w)
    return {sku = sku, quantity = counted, outcome = O.COUNT_SUPERSEDED, on_hand = on_hand ~= 0 and on_hand or nil}
  end
  ensure_warehouse(s, w)
  local carried, was = moved_since(h, cmd.at), count_of(s, 'on_hand', w)
  begin(s)
  change(s, 'on_hand', w, counted + carried - was)
  h.counted_at = cmd.at
  forget_until(h, cmd.at)
  finish(s, cause)
  local result = line_result(s, sku, counted, O.COUNTED, w, was, count_of(s, 'damaged', w))
  result.carried = carried ~= 0 and carried or nil
  return result
end
