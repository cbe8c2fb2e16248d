-- The ends of a hold: paid, cancelled, expired. Units return in the same step.

local batch = require('batch')
local modes = require('modes')
local orders = require('orders')
local queue = require('queue')
local skus = require('skus')

-- Take up to `units` off what a line waits for. -> the units left
local function release_waiting(order, line, sku, field, units)
  local take = math.min(units, line[field] or 0)
  if take == 0 then return units end
  skus.change(sku, field, order.record.channel, -take)
  orders.add_to(line, field, -take)
  queue.changed(order, line)
  return units - take
end

-- The held units of a line in the order in which some of them are released: the smallest hold first, those from pools
-- after those from the shelf.
local function smallest_first(sku, line, held)
  local at = sku.places.at
  if line.pools then held = require('pool_draw').divided(line, held) end
  table.sort(held, function(a, b)
    if a.is_shelf ~= b.is_shelf then return a.is_shelf end
    return a[2] < b[2] or (a[2] == b[2] and at[a[1]] < at[b[1]])
  end)
  return held
end

-- Release the units of a line that are short, preordered and held, or `most` of them: those that wait first, then those
-- of the smallest hold, those from pools last.
-- `kind` is the counter of the held ones (`locked` or `committed`). -> how many
local function release_line(order, line, kind, cause, most)
  local open = orders.open_units(line)
  local left = most and math.min(most, open) or open
  if left == 0 then return 0 end
  local sku, released = skus.get(line.sku), left
  skus.begin(sku)
  left = release_waiting(order, line, sku, 'short', left)
  left = release_waiting(order, line, sku, 'preordered', left)
  local held = orders.held_at(sku, line)
  if most and (#held > 1 or line.pools) then held = smallest_first(sku, line, held) end
  for _, entry in ipairs(held) do
    local units = math.min(left, entry[2])
    skus.change(sku, kind, entry[1], -units)
    orders.put_units(line, entry[1], -units)
    if line.pools and not entry.is_shelf then require('pool_draw').give_up(sku, line, entry[1], units, true) end
    left = left - units
  end
  modes.finish(sku, cause)
  return released
end

local function expire(order)
  orders.mark_changed(order)
  local cause = {'expire', '', order}
  for _, line in ipairs(order.record.lines) do
    if orders.open_units(line) > 0 then
      release_line(order, line, 'locked', cause)
      line.state = 'expired'
    end
  end
  orders.finish(order, 'expired')
  orders.note_unpaid(order)
end

-- A hold, and a request for approval, end by the ledger's time, whether or not the expiry step has run (rule 25).
local function expire_if_due(order)
  local state = order.record.state
  if state == 'reserved' and batch.now >= order.record.expires_at then
    expire(order)
    require('waiting').settle(order)
  elseif state == 'awaiting_approval' and batch.now >= order.record.expires_at then
    require('approvals').expire(order)
  end
end

local function commit(order, cause)
  orders.mark_changed(order)
  order.record.state, order.record.expires_at = 'paid', nil -- before a fill may give it units
  for _, line in ipairs(order.record.lines) do
    if line.reserved then
      local sku = skus.get(line.sku)
      skus.begin(sku)
      for _, held in ipairs(orders.held_at(sku, line)) do
        skus.change(sku, 'locked', held[1], -held[2])
        skus.change(sku, 'committed', held[1], held[2])
      end
      modes.finish(sku, cause)
    end
    line.state = orders.open_state(order, line) or line.state
  end
  orders.note_unpaid(order)
end

-- Cancel the units that are not shipped. A partly shipped order ends `shipped`, the rest of its lines `cancelled`.
local function cancel_unshipped(order, cause)
  orders.mark_changed(order)
  local kind = order.record.state == 'paid' and 'committed' or 'locked'
  local any_shipped = false
  for _, line in ipairs(order.record.lines) do
    if line.shipped then any_shipped = true end
    local released = release_line(order, line, kind, cause)
    if released > 0 then
      line.state = 'cancelled'
      orders.add_to(line, 'cancelled', released)
    end
  end
  orders.finish(order, any_shipped and 'shipped' or 'cancelled')
  orders.note_unpaid(order)
end

-- Cancel units of single lines: `lines` is [[sku, units], …], of which each line has as many open.
local function cancel_lines(order, lines, cause)
  if #lines > 0 then orders.mark_changed(order) end
  local kind = order.record.state == 'paid' and 'committed' or 'locked'
  for _, each in ipairs(lines) do
    local line = orders.line_of(order, each[1])
    orders.add_to(line, 'cancelled', release_line(order, line, kind, cause, each[2]))
    line.state = orders.open_state(order, line) or 'cancelled'
  end
  orders.note_unpaid(order)
end

-- End the change of an order some of whose units were cancelled; the order ends if none is left to be shipped.
local function finish_change(order)
  local any_shipped = false
  for _, line in ipairs(order.record.lines) do
    if orders.open_units(line) > 0 then return orders.advance_sequence(order) end
    if line.shipped then any_shipped = true end
  end
  orders.finish(order, any_shipped and 'shipped' or 'cancelled')
end

return {
  release_waiting = release_waiting, expire_if_due = expire_if_due, commit = commit,
  cancel_unshipped = cancel_unshipped, cancel_lines = cancel_lines, finish_change = finish_change,
}
