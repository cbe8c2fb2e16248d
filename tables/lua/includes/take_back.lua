-- take_back {lines = {{sku, units, warehouse, condition}, …}}: returns of shipped units (rule 33). Any warehouse may
-- receive; beyond what was shipped the whole event is refused; damaged units raise only `damaged`.
local function take_back(o, cmd)
  local returning = {}
  for i, back in ipairs(cmd.lines) do
    local line = line_of(o, back[1])
    if not line then return O.NOT_IN_ORDER, false, 'lines[' .. (i - 1) .. '].sku' end
    local s = get_sku(back[1])
    if s and not has_room_for(s, back[3]) then return O.TOO_LARGE, false, 'lines[' .. (i - 1) .. '].warehouse' end
    returning[back[1]] = (returning[back[1]] or 0) + back[2]
    if (line.returned or 0) + returning[back[1]] > (line.shipped or 0) then
      return O.MORE_THAN_SHIPPED, false, 'lines[' .. (i - 1) .. '].quantity'
    end
  end
  if is_full(o) then return O.TOO_MANY_EVENTS end
  note_event(o, cmd)
  local cause, detail = {'take_back', cmd.id, o.id}, nil
  for _, back in ipairs(cmd.lines) do
    local line, s, n, w = line_of(o, back[1]), get_sku(back[1]), back[2], back[3]
    ensure_warehouse(s, w)
    begin(s)
    if back[4] == 'damaged' then
      change(s, 'damaged', w, n)
    elseif not move_on_hand(s, w, n, cmd.at) then
      detail = O.ALREADY_COUNTED
    end
    finish(s, cause)
    add_to(line, 'returned', n)
    local whole = line.returned == line.shipped and not line.reserved and not line.preordered
    if whole and line.state == 'shipped' then line.state = 'returned' end
  end
  step(o)
  return O.RETURNED, false, detail
end
