-- Movements of a warehouse: receive, adjust, transfer. Each id applies once; a rejected line rejects all (34).
-- `m = {warehouse, id, r}`; `r` is the stored record (tables/ledger/records.py, MovementRecord).
local movements, movements_included, movement_key, get_movement, known_sku, line_result, receive, adjust, transfer
do
movements, movements_included = {}, {}

function movement_key(warehouse, id) return warehouse .. '\n' .. id end

function get_movement(warehouse, id)
  local key = movement_key(warehouse, id)
  local m = movements[key]
  if m == nil then
    local packed = redis.call('GET', KEYS[1] .. 'movement:' .. key)
    m = packed and {warehouse = warehouse, id = id, packed = packed, r = unpack_all(packed)} or false
    movements[key] = m
  end
  return m
end

function known_sku(sku) return get_sku(sku) or new_sku(sku) end

-- -> the record of one line of a movement at `w`
function line_result(s, sku, n, outcome, w, was, was_damaged)
  local on_hand, damaged = count_of(s, 'on_hand', w), count_of(s, 'damaged', w)
  local zero_is_nil = function(value) return value ~= 0 and value or nil end
  return {
    sku = sku, quantity = n, outcome = outcome, on_hand = zero_is_nil(on_hand), change = zero_is_nil(on_hand - was),
    damaged = zero_is_nil(damaged - was_damaged),
  }
end

function receive(cmd, cause, sku, n)
  local s, w = known_sku(sku), cmd.warehouse
  ensure_warehouse(s, w)
  local was, was_damaged = count_of(s, 'on_hand', w), count_of(s, 'damaged', w)
  begin(s)
  local moved = move_on_hand(s, w, n, cmd.at)
  finish(s, cause)
  return line_result(s, sku, n, moved and O.RECEIVED or O.ALREADY_COUNTED, w, was, was_damaged)
end

-- `damages` moves units between on_hand and damaged; `scrapped` lowers damaged; other reasons change on_hand.
function adjust(cmd, cause, sku, n)
  local s, w = known_sku(sku), cmd.warehouse
  ensure_warehouse(s, w)
  local was, was_damaged = count_of(s, 'on_hand', w), count_of(s, 'damaged', w)
  local moved = true
  begin(s)
  if cmd.reason == 'scrapped' then
    change(s, 'damaged', w, n)
  else
    if n ~= 0 then moved = move_on_hand(s, w, n, cmd.at) end
    if cmd.reason == 'damages' then change(s, 'damaged', w, -n) end
  end
  finish(s, cause)
  return line_result(s, sku, n, moved and O.ADJUSTED or O.ALREADY_COUNTED, w, was, was_damaged)
end

-- The holds stay with the source, which may go negative (rule 36).
function transfer(cmd, cause, sku, n)
  local s, w = known_sku(sku), cmd.warehouse
  ensure_warehouse(s, w)
  ensure_warehouse(s, cmd.to_warehouse)
  local was = count_of(s, 'on_hand', w)
  begin(s)
  local left = move_on_hand(s, w, -n, cmd.at)
  local arrived = move_on_hand(s, cmd.to_warehouse, n, cmd.at)
  finish(s, cause)
  local outcome = (left or arrived) and O.TRANSFERRED or O.ALREADY_COUNTED
  return line_result(s, sku, n, outcome, w, was, count_of(s, 'damaged', w))
end

end
