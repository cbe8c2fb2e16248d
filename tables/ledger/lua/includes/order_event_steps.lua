-- Events of a placed order: pay, cancel, extend, ship, take_back. They are idempotent by id, pay and cancel also by
-- state (rule 23). A handler returns an outcome and `true` if the event is a repeat.

local alerts = require('alerts')
local batch = require('batch')
local history = require('history')
local modes = require('modes')
local orders = require('orders')
local release = require('release')
local skus = require('skus')

local function pay(o, cmd)
  local state = o.r.state
  if state == 'paid' or state == 'shipped' then return O.PAID, true end
  if state ~= 'reserved' then
    if state == 'expired' and cmd.origin then alerts.add('paid_after_expiry', nil, {order_id = o.id}) end
    return O.ALREADY_FINAL
  end
  release.commit(o, {'pay', cmd.id, o})
  orders.advance_sequence(o)
  orders.record_event(o, cmd)
  return O.PAID
end

local function cancel(o, cmd)
  local state = o.r.state
  if state == 'cancelled' then return O.CANCELLED, true end
  if state == 'shipped' then
    for _, line in ipairs(o.r.lines) do
      if line.cancelled then return O.CANCELLED, true end
    end
  end
  if state ~= 'reserved' and state ~= 'paid' then return O.ALREADY_FINAL end
  release.cancel_unshipped(o, {'cancel', cmd.id, o})
  orders.record_event(o, cmd)
  return O.CANCELLED
end

-- Only an extension that moves the deadline counts towards the limit (rule 42). The ids of the others are kept up to a
-- bound on the size of the record.
local UNMOVED_EXTENSIONS_MAX = 1000

local function extend(o, cmd)
  if o.r.state ~= 'reserved' then return O.ALREADY_FINAL end
  local deadline = math.min(batch.now + cmd.hold_ms, o.r.placed_at + orders.PLACED_FOR_MAX_MS)
  if deadline <= o.r.expires_at then
    if #o.r.events / 2 + #(o.r.event_digests or '') / 24 < UNMOVED_EXTENSIONS_MAX then orders.record_event(o, cmd) end
    return O.EXTENDED
  end
  local extensions = (o.r.extensions or 0) + 1
  if extensions > batch.limits.extensions_max then
    return O.TOO_MANY_EVENTS, false, nil, 'the order has been extended ' .. batch.limits.extensions_max .. ' times'
  end
  orders.record_event(o, cmd)
  o.r.expires_at, o.r.extensions = deadline, extensions
  orders.advance_sequence(o)
  return O.EXTENDED
end

local function line_of(o, sku)
  for _, line in ipairs(o.r.lines) do
    if line.sku == sku then return line end
  end
end

-- Ship units of one line: from the hold at the same warehouse, then from other holds, then from preorders. Units beyond
-- those are shipped too, because a shipment is a fact (rules 31, 32).
local function ship_line(o, line, n, w, at, cause)
  local s = skus.get(line.sku) or skus.new(line.sku)
  skus.ensure_warehouse(s, w)
  skus.begin(s)
  local left = n
  local held = orders.held_at(s, line)
  table.sort(held, function(a, b) return a[1] == w and b[1] ~= w end)
  for _, entry in ipairs(held) do
    local take = math.min(left, entry[2])
    skus.change(s, 'committed', entry[1], -take)
    orders.put_units(line, entry[1], -take)
    left = left - take
  end
  if line.preordered then
    local take = math.min(left, line.preordered)
    skus.change(s, 'preordered', o.r.channel, -take)
    orders.add_to(line, 'preordered', -take)
    left = left - take
  end
  orders.add_to(line, 'shipped', n)
  if left > 0 then alerts.add('shipped_beyond_order', s, {order_id = o.id, quantity = left, warehouse = w}) end
  local counted = history.move_on_hand(s, w, -n, at)
  modes.finish(s, cause)
  return counted
end

local function ship(o, cmd)
  for i, line in ipairs(cmd.lines) do
    if not line_of(o, line[1]) then return O.NOT_IN_ORDER, false, 'lines[' .. (i - 1) .. '].sku' end
    local s = skus.get(line[1])
    if s and not skus.has_room_for(s, line[3]) then return O.TOO_LARGE, false, 'lines[' .. (i - 1) .. '].warehouse' end
  end
  local cause = {'ship', cmd.id, o}
  if o.r.state == 'reserved' then release.commit(o, cause) end
  orders.record_event(o, cmd)
  local detail, open = nil, false
  for _, shipped in ipairs(cmd.lines) do
    local line = line_of(o, shipped[1])
    if not ship_line(o, line, shipped[2], shipped[3], cmd.at, cause) then detail = O.ALREADY_COUNTED end
    if line.state == 'returned' then line.state = 'shipped' end
  end
  if o.r.state ~= 'paid' then
    orders.advance_sequence(o)
    return O.SHIPPED, false, detail
  end
  for _, line in ipairs(o.r.lines) do
    if line.reserved or line.preordered then
      open = true
    elseif line.shipped and line.state == 'committed' or line.state == 'preordered' then
      line.state = 'shipped'
    end
  end
  if open then orders.advance_sequence(o) else orders.finish(o, 'shipped') end
  return O.SHIPPED, false, detail
end

return {pay = pay, cancel = cancel, extend = extend, line_of = line_of, ship = ship}
