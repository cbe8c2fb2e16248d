-- Events of a placed order: pay, cancel, extend, ship, take_back. They are idempotent by id, pay and cancel also by
-- state (rule 23). A handler returns an outcome and `true` if the event is a repeat.

local alerts = require('alerts')
local batch = require('batch')
local history = require('history')
local modes = require('modes')
local orders = require('orders')
local release = require('release')
local skus = require('skus')

-- Rule 53. Refused, it is as without the option.
local function take_again(order, command)
  local additions = require('additions')
  local taken, reasons = additions.take_again(order, {'pay', command.id, order})
  if not taken then
    if command.origin then alerts.add('paid_after_expiry', nil, {order_id = order.id}) end
    command.reasons = reasons
    local why = 'the order is expired, and cannot be taken again: ' .. additions.reasons_text(reasons, 'lines')
    return O.ALREADY_FINAL, false, nil, why
  end
  release.finish_change(order)
  orders.record_event(order, command)
  return O.PAID
end

local function pay(order, command)
  local state = order.record.state
  if state == 'paid' or state == 'shipped' then return O.PAID, true end
  if state == 'expired' and command.if_expired == 'take_again' then return take_again(order, command) end
  if state ~= 'reserved' then
    if state == 'expired' and command.origin then alerts.add('paid_after_expiry', nil, {order_id = order.id}) end
    return O.ALREADY_FINAL
  end
  release.commit(order, {'pay', command.id, order})
  orders.advance_sequence(order)
  orders.record_event(order, command)
  return O.PAID
end

-- -> nil, or a refusal of `lines` ([[sku, units], …] in the field `field`) and its path
local function more_than_open(order, lines, field)
  local units = {}
  for i, each in ipairs(lines) do
    local line, path = orders.line_of(order, each[1]), field .. '[' .. (i - 1) .. ']'
    if not line then return O.NOT_IN_ORDER, path .. '.sku' end
    units[line] = (units[line] or 0) + each[2]
    if units[line] > orders.open_units(line) then return O.MORE_THAN_OPEN, path .. '.quantity' end
  end
end

-- Rule 51. Repeats are known by their id alone.
local function cancel_in_part(order, command)
  local state = order.record.state
  if state == 'expired' or state == 'rejected' then return O.ALREADY_FINAL end
  local refusal, path = more_than_open(order, command.lines, 'lines')
  if refusal then return refusal, false, path end
  orders.record_event(order, command)
  release.cancel_lines(order, command.lines, {'cancel', command.id, order})
  release.finish_change(order)
  return O.CANCELLED
end

-- Rule 51 with `removal`: totals and single removals of the same units come in any order, and each unit goes back
-- once. `removed_ahead` are the units of a SKU that a total has cancelled and no single removal has named.
local function cancel_removed(order, command)
  local state = order.record.state
  if state == 'expired' or state == 'rejected' then return O.ALREADY_FINAL end
  local ahead, lines, is_new = {}, {}, command.removal == 'single'
  for sku, units in pairs(order.record.removed_ahead or {}) do ahead[sku] = units end
  for i, each in ipairs(command.lines) do
    local line, path, units = orders.line_of(order, each[1]), 'lines[' .. (i - 1) .. ']', each[2]
    if not line then return O.NOT_IN_ORDER, false, path .. '.sku' end
    local known, open = ahead[line.sku] or 0, orders.open_units(line)
    if command.removal == 'total' then
      units = math.max(0, math.min(units - (line.cancelled or 0), open))
      ahead[line.sku] = known + units
    else
      ahead[line.sku] = known - math.min(units, known)
      units = units - math.min(units, known)
      if units > open then return O.MORE_THAN_OPEN, false, path .. '.quantity' end
    end
    if ahead[line.sku] == 0 then ahead[line.sku] = nil end
    if units > 0 then lines[#lines + 1], is_new = {line.sku, units}, true end
  end
  if not is_new then return O.CANCELLED, true end
  orders.record_event(order, command)
  order.record.removed_ahead = next(ahead) and ahead or nil
  if #lines > 0 then
    release.cancel_lines(order, lines, {'cancel', command.id, order})
    release.finish_change(order)
  end
  return O.CANCELLED
end

local function cancel(order, command)
  if command.lines then return (command.removal and cancel_removed or cancel_in_part)(order, command) end
  local state = order.record.state
  if state == 'cancelled' then return O.CANCELLED, true end
  if state == 'shipped' then
    for _, line in ipairs(order.record.lines) do
      if line.state == 'cancelled' then return O.CANCELLED, true end
    end
  end
  if state ~= 'reserved' and state ~= 'paid' then return O.ALREADY_FINAL end
  if command.removal == 'total' then
    local ahead = order.record.removed_ahead or {}
    for _, line in ipairs(order.record.lines) do
      local open = orders.open_units(line)
      if open > 0 then ahead[line.sku] = (ahead[line.sku] or 0) + open end
    end
    order.record.removed_ahead = next(ahead) and ahead or nil
  end
  release.cancel_unshipped(order, {'cancel', command.id, order})
  orders.record_event(order, command)
  return O.CANCELLED
end

-- Only an extension that moves the deadline counts towards the limit (rule 42). The ids of the others are kept up to a
-- bound on the size of the record.
local UNMOVED_EXTENSIONS_MAX = 1000

local function extend(order, command)
  if order.record.state ~= 'reserved' then return O.ALREADY_FINAL end
  local deadline = math.min(batch.now + command.hold_ms, order.record.placed_at + orders.PLACED_FOR_MAX_MS)
  if deadline <= order.record.expires_at then
    local ids = #order.record.events / 2 + #(order.record.event_digests or '') / 24
    if ids < UNMOVED_EXTENSIONS_MAX then orders.record_event(order, command) end
    return O.EXTENDED
  end
  local extensions = (order.record.extensions or 0) + 1
  if extensions > batch.limits.extensions_max then
    return O.TOO_MANY_EVENTS, false, nil, 'the order has been extended ' .. batch.limits.extensions_max .. ' times'
  end
  orders.record_event(order, command)
  order.record.expires_at, order.record.extensions = deadline, extensions
  orders.advance_sequence(order)
  return O.EXTENDED
end

-- Ship units of one line: from the hold at the same warehouse, then from other holds, then from preordered and short
-- units. Units beyond those are shipped too, because a shipment is a fact (rules 31, 32).
local function ship_line(order, line, units, warehouse, at, cause)
  local sku = skus.get(line.sku) or skus.new(line.sku)
  skus.ensure_warehouse(sku, warehouse)
  skus.begin(sku)
  local left = units
  local held = orders.held_at(sku, line)
  for i, entry in ipairs(held) do -- the others keep their order
    if entry[1] == warehouse then
      table.insert(held, 1, table.remove(held, i))
      break
    end
  end
  for _, entry in ipairs(held) do
    local take = math.min(left, entry[2])
    skus.change(sku, 'committed', entry[1], -take)
    orders.put_units(line, entry[1], -take)
    if line.pools then require('pool_draw').give_up(sku, line, entry[1], take, false) end
    left = left - take
  end
  left = release.release_waiting(order, line, sku, 'preordered', left)
  left = release.release_waiting(order, line, sku, 'short', left)
  orders.add_to(line, 'shipped', units)
  if left > 0 then
    alerts.add('shipped_beyond_order', sku, {order_id = order.id, quantity = left, warehouse = warehouse})
  end
  local counted = history.move_on_hand(sku, warehouse, -units, at)
  modes.finish(sku, cause)
  return counted
end

local function ship(order, command)
  for i, line in ipairs(command.lines) do
    if not orders.line_of(order, line[1]) then return O.NOT_IN_ORDER, false, 'lines[' .. (i - 1) .. '].sku' end
    local sku = skus.get(line[1])
    if sku and not skus.has_room_for(sku, line[3]) then
      return O.TOO_LARGE, false, 'lines[' .. (i - 1) .. '].warehouse'
    end
  end
  local cause = {'ship', command.id, order}
  if order.record.state == 'reserved' then release.commit(order, cause) end
  orders.record_event(order, command)
  local detail, open = nil, false
  for _, shipped in ipairs(command.lines) do
    local line = orders.line_of(order, shipped[1])
    if not ship_line(order, line, shipped[2], shipped[3], command.at, cause) then detail = O.ALREADY_COUNTED end
    if line.state == 'returned' then line.state = 'shipped' end
  end
  if order.record.state ~= 'paid' then
    orders.advance_sequence(order)
    return O.SHIPPED, false, detail
  end
  for _, line in ipairs(order.record.lines) do
    if line.reserved or line.preordered or line.short then
      open = true
    elseif line.shipped and line.state == 'committed' or line.state == 'preordered' then
      line.state = 'shipped'
    end
  end
  if open then orders.advance_sequence(order) else orders.finish(order, 'shipped') end
  return O.SHIPPED, false, detail
end

return {pay = pay, cancel = cancel, extend = extend, ship = ship, more_than_open = more_than_open}
