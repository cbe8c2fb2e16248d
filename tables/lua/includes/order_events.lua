-- An event of an order -> a result {outcome, replayed, order_id, detail} (tables/records.py, Result).
local ORDER_EVENTS = {
  pay = {pay, O.PAID}, cancel = {cancel, O.CANCELLED}, extend = {extend, O.EXTENDED}, ship = {ship, O.SHIPPED},
  take_back = {take_back, O.RETURNED},
}
local TAKEN = {
  paid = true, cancelled = true, extended = true, shipped = true, returned = true, parked = true,
}

-- An event of an order that was placed -> outcome, replayed, detail
local function order_event(o, cmd)
  expire_if_due(o)
  local known = event_of(o, cmd.id)
  if known then
    if known ~= cmd.fingerprint then return O.CONFLICT end
    return ORDER_EVENTS[cmd.kind][2], true
  end
  return ORDER_EVENTS[cmd.kind][1](o, cmd)
end

-- An event that came before its order waits in the order's place, for a bounded time.
local function park(cmd, o)
  if not cmd.origin then return O.UNKNOWN_ORDER end
  if not o then
    o = {id = cmd.order_id, r = {state = 'parked', lines = {}, events = {}, parked = {}}}
    orders[cmd.order_id] = o
  end
  for _, waiting in ipairs(o.r.parked) do
    if waiting.id == cmd.id then
      if waiting.fingerprint == cmd.fingerprint then return O.PARKED, true end
      return O.CONFLICT
    end
  end
  if #o.r.parked >= EVENTS_MAX then return O.TOO_MANY_EVENTS end
  changing(o)
  o.r.parked[#o.r.parked + 1] = cmd
  o.r.expires_at = o.r.expires_at or now + limits.park_ms
  return O.PARKED
end

local function on_order_event(cmd)
  local o = get_order(cmd.order_id)
  local outcome, replayed, detail
  if is_seen(o) then
    outcome, replayed, detail = order_event(o, cmd)
    asked(o)
  else
    outcome, replayed = park(cmd, o)
  end
  if not TAKEN[outcome] then refuse(cmd, outcome, detail or (is_seen(o) and 'the order is ' .. o.r.state)) end
  return {outcome = outcome, replayed = replayed or nil, order_id = cmd.order_id, detail = detail}
end

