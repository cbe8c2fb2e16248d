-- Rejections that also become dead letters, because the order's row does not give the reason.

local orders = require('orders')
local place = require('place')
local refusals = require('refusals')
local registry = require('registry')
local release = require('release')
local supersede = require('supersede')
local waiting = require('waiting')

local DEAD_LETTER_DETAILS = {
  conflict = 'the order that it supersedes is of another channel',
  already_final = 'the order that it supersedes is paid or shipped',
  too_large = 'the order would draw on so many warehouses that its record would be too large',
}

-- place -> a result. A repeat is answered from the record; another body under the same order_id is a conflict; parked
-- events of the order are applied right after it (rules 19, 20, 43).
local function run(cmd)
  local o = orders.get(cmd.order_id)
  local result = {order_id = cmd.order_id, outcome = nil}
  if orders.is_placed(o) then
    release.expire_if_due(o)
    orders.include(o)
    local known = orders.event_of(o, cmd)
    if o.r.fingerprint ~= cmd.fingerprint or (known and known ~= cmd.fingerprint) then
      local same_order = o.r.fingerprint == cmd.fingerprint
      refusals.add(cmd, O.CONFLICT, same_order and 'the id is taken by an event with another body'
        or 'the order_id is taken by an order with another body')
      result.outcome = O.CONFLICT
    else
      result.outcome, result.replayed = o.r.outcome, true
    end
    return result
  end
  if not registry.can_register(cmd.channel) then
    refusals.add(cmd, O.TOO_MANY_CHANNELS, registry.CHANNELS_MAX .. ' channels are known, and no more can be')
    result.outcome = O.TOO_MANY_CHANNELS
    return result
  end
  if not registry.channels[cmd.channel] then require('policies').register_channel(cmd.channel) end
  local fresh = place.new_order(cmd)
  local early
  if o then
    early = waiting.take_all(o)
    fresh.was_due, fresh.was_waiting, o.replaced = o.was_due, o.was_waiting, true
  end
  orders.known[cmd.order_id] = fresh
  orders.changed[#orders.changed + 1] = fresh
  orders.include(fresh)
  fresh.r.outcome = supersede.decide(fresh, cmd)
  result.outcome = fresh.r.outcome
  if DEAD_LETTER_DETAILS[result.outcome] then refusals.add(cmd, result.outcome, DEAD_LETTER_DETAILS[result.outcome]) end
  if early then
    for _, each in ipairs(early) do require('order_event_dispatch').run(each) end
  end
  return result
end

return {run = run}
