-- The placing of an order -> a result (tables/ledger/records.py, Result).

local orders = require('orders')
local place = require('place')
local refusals = require('refusals')
local registry = require('registry')

-- Rejections that also become dead letters, because the order's row does not give the reason.
local DEAD_LETTER_DETAILS = {
  conflict = 'the order that it supersedes is of another channel',
  already_final = 'the order that it supersedes is paid or shipped',
  too_large = 'the order would draw on so many warehouses that its record would be too large',
}

-- A repeat is answered from the record; another body under the same order_id is a conflict; parked
-- events of the order are applied right after it (rules 19, 20, 43).
local function run(command)
  local order = orders.get(command.order_id)
  local result = {order_id = command.order_id, outcome = nil}
  if orders.is_requested(order) then
    require('release').expire_if_due(order)
    orders.include(order)
    local known = orders.event_of(order, command)
    if order.record.fingerprint ~= command.fingerprint or (known and known ~= command.fingerprint) then
      local same_order = order.record.fingerprint == command.fingerprint
      refusals.add(command, O.CONFLICT, same_order and 'the id is taken by an event with another body'
        or 'the order_id is taken by an order with another body')
      result.outcome = O.CONFLICT
    else
      result.outcome, result.replayed = order.record.outcome, true
    end
    return result
  end
  if not registry.can_register(command.channel) then
    refusals.add(command, O.TOO_MANY_CHANNELS, registry.CHANNELS_MAX .. ' channels are known, and no more can be')
    result.outcome = O.TOO_MANY_CHANNELS
    return result
  end
  if not registry.channels[command.channel] then require('policies').register_channel(command.channel) end
  local fresh = place.new_order(command)
  local early
  if order then
    early = require('waiting').take_all(order)
    fresh.was_due, fresh.was_waiting, order.replaced = order.was_due, order.was_waiting, true
  end
  orders.known[command.order_id] = fresh
  orders.changed[#orders.changed + 1] = fresh
  orders.include(fresh)
  if command.force then
    result.outcome = require('approvals').request(fresh, command)
  else
    place.end_dwells(fresh.record.lines)
    local decide = command.supersedes and require('supersede').decide or place.decide
    result.outcome = decide(fresh, command)
  end
  fresh.record.outcome = result.outcome
  local detail = DEAD_LETTER_DETAILS[result.outcome]
  if detail then refusals.add(command, result.outcome, detail) end
  if early then
    for _, each in ipairs(early) do require('order_event_dispatch').run(each) end
  end
  return result
end

return {run = run}
