-- The ends of a hold: paid, cancelled, expired. Units return in the same step.

local batch = require('batch')
local modes = require('modes')
local orders = require('orders')
local skus = require('skus')

-- Release the held and preordered units of a line. `kind` is the counter that holds them (`locked` or `committed`).
-- -> their number
local function release_line(order, line, kind, cause)
  if not line.reserved and not line.preordered then return 0 end
  local sku = skus.get(line.sku)
  local released = (line.reserved or 0) + (line.preordered or 0)
  skus.begin(sku)
  for _, held in ipairs(orders.held_at(sku, line)) do
    skus.change(sku, kind, held[1], -held[2])
    orders.put_units(line, held[1], -held[2])
    if line.pools then require('pool_draw').give_up(sku, line, held[1], held[2], true) end
  end
  if line.preordered then
    skus.change(sku, 'preordered', order.record.channel, -line.preordered)
    line.preordered = nil
  end
  modes.finish(sku, cause)
  return released
end

local function expire(order)
  orders.mark_changed(order)
  local cause = {'expire', '', order}
  for _, line in ipairs(order.record.lines) do
    if line.state ~= 'rejected' then
      release_line(order, line, 'locked', cause)
      line.state = 'expired'
    end
  end
  orders.finish(order, 'expired')
end

-- A hold ends by the ledger's time, whether or not the expiry step has run (rule 25).
local function expire_if_due(order)
  if order.record.state == 'reserved' and batch.now >= order.record.expires_at then
    expire(order)
    require('waiting').settle(order)
  end
end

local function commit(order, cause)
  orders.mark_changed(order)
  for _, line in ipairs(order.record.lines) do
    if line.reserved then
      local sku = skus.get(line.sku)
      skus.begin(sku)
      for _, held in ipairs(orders.held_at(sku, line)) do
        skus.change(sku, 'locked', held[1], -held[2])
        skus.change(sku, 'committed', held[1], held[2])
      end
      modes.finish(sku, cause)
      if not line.preordered then line.state = 'committed' end
    end
  end
  order.record.state, order.record.expires_at = 'paid', nil
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
end

return {expire_if_due = expire_if_due, commit = commit, cancel_unshipped = cancel_unshipped}
