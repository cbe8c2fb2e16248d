-- The ends of a hold: paid, cancelled, expired. Units return in the same step.
-- Release the held and preordered units of a line; `kind` is the counter that holds them (`locked` or `committed`).

local batch = require('batch')
local modes = require('modes')
local orders = require('orders')
local skus = require('skus')
local waiting = require('waiting')

local function release_line(o, line, kind, cause)
  if not line.reserved and not line.preordered then return 0 end
  local s = skus.get(line.sku)
  local released = (line.reserved or 0) + (line.preordered or 0)
  skus.begin(s)
  for _, held in ipairs(orders.held_at(s, line)) do
    skus.change(s, kind, held[1], -held[2])
    orders.put_units(line, held[1], -held[2])
  end
  if line.preordered then
    skus.change(s, 'preordered', o.r.channel, -line.preordered)
    line.preordered = nil
  end
  modes.finish(s, cause)
  return released
end

local function expire(o)
  orders.mark_changed(o)
  local cause = {'expire', '', o}
  for _, line in ipairs(o.r.lines) do
    if line.state ~= 'rejected' then
      release_line(o, line, 'locked', cause)
      line.state = 'expired'
    end
  end
  orders.finish(o, 'expired')
end

-- A hold ends by the ledger's time, whether or not the expiry step has run (rule 25).
local function expire_if_due(o)
  if o.r.state == 'reserved' and batch.now >= o.r.expires_at then
    expire(o)
    waiting.settle(o)
  end
end

local function commit(o, cause)
  orders.mark_changed(o)
  for _, line in ipairs(o.r.lines) do
    if line.reserved then
      local s = skus.get(line.sku)
      skus.begin(s)
      for _, held in ipairs(orders.held_at(s, line)) do
        skus.change(s, 'locked', held[1], -held[2])
        skus.change(s, 'committed', held[1], held[2])
      end
      modes.finish(s, cause)
      line.state = 'committed'
    end
  end
  o.r.state, o.r.expires_at = 'paid', nil
end

-- Cancel the units that are not shipped. A partly shipped order ends `shipped`, the rest of its lines `cancelled`.
local function cancel_unshipped(o, cause)
  orders.mark_changed(o)
  local kind = o.r.state == 'paid' and 'committed' or 'locked'
  local any_shipped = false
  for _, line in ipairs(o.r.lines) do
    if line.shipped then any_shipped = true end
    local released = release_line(o, line, kind, cause)
    if released > 0 then
      line.state = 'cancelled'
      orders.add_to(line, 'cancelled', released)
    end
  end
  orders.finish(o, any_shipped and 'shipped' or 'cancelled')
end

return {expire_if_due = expire_if_due, commit = commit, cancel_unshipped = cancel_unshipped}
