-- Rejections that also become dead letters, because the order's row does not give the reason.
local DEAD_LETTER_DETAILS = {
  conflict = 'the order that it supersedes is of another channel',
  already_final = 'the order that it supersedes is paid or shipped',
  too_large = 'the order would draw on so many warehouses that its record would be too large',
}

-- place -> a result. A repeat is answered from the record; another body under the same order_id is a conflict; parked
-- events of the order are applied right after it (rules 19, 20, 43).
local function place(cmd)
  local o = get_order(cmd.order_id)
  local result = {order_id = cmd.order_id, outcome = nil}
  if is_placed(o) then
    expire_if_due(o)
    include_order(o)
    local known = event_of(o, cmd)
    if o.r.fingerprint ~= cmd.fingerprint or (known and known ~= cmd.fingerprint) then
      local same_order = o.r.fingerprint == cmd.fingerprint
      refuse(cmd, O.CONFLICT, same_order and 'the id is taken by an event with another body'
        or 'the order_id is taken by an order with another body')
      result.outcome = O.CONFLICT
    else
      result.outcome, result.replayed = o.r.outcome, true
    end
    return result
  end
  if not can_register(cmd.channel) then
    refuse(cmd, O.TOO_MANY_CHANNELS, CHANNELS_MAX .. ' channels are known, and no more can be')
    result.outcome = O.TOO_MANY_CHANNELS
    return result
  end
  register_channel(cmd.channel)
  local fresh = new_order(cmd)
  local early
  if o then
    early = waiting.take_all(o)
    fresh.was_due, fresh.was_waiting, o.replaced = o.was_due, o.was_waiting, true
  end
  orders[cmd.order_id] = fresh
  orders_changed[#orders_changed + 1] = fresh
  include_order(fresh)
  fresh.r.outcome = decide_superseding(fresh, cmd)
  result.outcome = fresh.r.outcome
  if DEAD_LETTER_DETAILS[result.outcome] then refuse(cmd, result.outcome, DEAD_LETTER_DETAILS[result.outcome]) end
  if early then
    for _, each in ipairs(early) do on_order_event(each) end
  end
  return result
end

