-- Units that are held for an order that was placed before, by its channel's rules now (rules 52, 53). `wanted`:
-- [{line, place, sku, units}, …], where `place` counts the lines of the order or of the event from 0; all or none.

local orders = require('orders')
local place = require('place')

local REASONS_NAMED_MAX = 20 -- in the detail of a dead letter

-- What `place.plan_line` reads of the command that placed the order.
local function rules_of(record)
  return {
    channel = record.channel, priority = record.priority, region = record.region, purpose = record.purpose,
    allow_preorder = not record.no_preorder,
  }
end

-- The unpaid units that an order may hold more; `freed` units of it are to go back.
local function room_of(record, freed)
  local unpaid = record.bounded and record.state == 'reserved' and require('unpaid')
  local limits = unpaid and unpaid.limits_of(record.channel)
  return limits and unpaid.room(limits, record.channel, record.buyer) + (freed or 0) or math.huge
end

-- -> how to hold them; or nil, and the reasons against it as [place, outcome, …]
local function plan(order, wanted, freed)
  local rules, kinds, details, pooled, reasons = rules_of(order.record), {}, {}, {}, {}
  local room = room_of(order.record, freed)
  for i, each in ipairs(wanted) do
    local kind, detail, parts = place.plan_line(rules, each.sku, each.units)
    if kind and each.units > room then
      kind, detail = nil, O.TOO_MANY_HELD
    elseif kind then
      room = room - each.units
    end
    kinds[i], details[i], pooled[i] = kind or false, detail, parts
    if not kind then reasons[#reasons + 1], reasons[#reasons + 2] = each.place, detail end
  end
  if #reasons > 0 then return nil, reasons end
  if place.planned_bytes(wanted, kinds, details, pooled) + #(order.packed or '') > place.ORDER_BYTES_MAX then
    for _, each in ipairs(wanted) do reasons[#reasons + 1], reasons[#reasons + 2] = each.place, O.TOO_LARGE end
    return nil, reasons
  end
  return {kinds = kinds, details = details, pooled = pooled}
end

local function hold(order, wanted, planned, cause)
  for i, each in ipairs(wanted) do
    local kind, draws = planned.kinds[i], planned.details[i]
    place.hold_line(order, each.line, each.units, kind, draws, cause, planned.pooled[i])
  end
  orders.note_unpaid(order)
end

-- `lines[0]: sold_out, …`, for a dead letter; `field` names the lines
local function reasons_text(reasons, field)
  local words = {}
  for i = 1, math.min(#reasons, 2 * REASONS_NAMED_MAX), 2 do
    words[#words + 1] = field .. '[' .. reasons[i] .. ']: ' .. reasons[i + 1]
  end
  local more = #reasons / 2 - #words
  return table.concat(words, ', ') .. (more > 0 and ' and ' .. more .. ' more' or '')
end

-- Rule 53: hold all lines of an expired order again, as paid. What was shipped after its end is not held again.
-- -> false and the reasons, if the channel's rules do not allow it
local function take_again(order, cause)
  local record, wanted = order.record, {}
  place.end_dwells(record.lines)
  for i, line in ipairs(record.lines) do
    local units = line.quantity - (line.cancelled or 0) - (line.shipped or 0)
    if line.state == 'expired' and units > 0 then
      wanted[#wanted + 1] = {line = line, place = i - 1, sku = line.sku, units = units}
    end
  end
  local planned, reasons = plan(order, wanted)
  if not planned then return false, reasons end
  orders.mark_changed(order)
  record.state, record.ended_at = 'paid', nil
  hold(order, wanted, planned, cause)
  for _, line in ipairs(record.lines) do
    if line.state == 'expired' then line.state = line.returned == line.shipped and 'returned' or 'shipped' end
  end
  return true
end

return {plan = plan, hold = hold, reasons_text = reasons_text, take_again = take_again}
