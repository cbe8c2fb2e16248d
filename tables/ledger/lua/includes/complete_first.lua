-- The policy `fill` of a SKU, `complete_first`: an order that can be filled whole goes before the first one of the
-- queue that cannot. The first one is passed over a bounded number of times, counted in its record (`passed_over`, by
-- SKU); then it is filled in part again. Short units are never passed over.

local orders = require('orders')
local queue = require('queue')

-- Times that an order is passed over: some receipts, so that a large order does not wait without end.
local PASSED_OVER_MAX = 8
-- Orders that are read in search of one that can be filled whole, and the bytes of their records: about a ms.
local SEARCHED_MAX, SEARCHED_BYTES_MAX = 32, 65536

local complete_first = {}

local function is_wanted(sku)
  local over_all = sku.policies and sku.policies['*']
  return over_all ~= nil and over_all.fill == 'complete_first'
end

-- Whether an order that is first, and of which a line may take `units`, can be passed over.
function complete_first.may_pass(sku, order, line, units)
  if not is_wanted(sku) or line.short or line.preordered <= units then return false end
  local passed_over = order.record.passed_over
  return not passed_over or (passed_over[sku.name] or 0) < PASSED_OVER_MAX
end

function complete_first.note_passed(sku, order)
  orders.mark_changed(order)
  local passed_over = order.record.passed_over or {}
  passed_over[sku.name] = (passed_over[sku.name] or 0) + 1
  order.record.passed_over = passed_over
end

-- Must be called once a line waits for nothing.
function complete_first.forget(order, line)
  local passed_over = order.record.passed_over
  if not passed_over then return end
  passed_over[line.sku] = nil
  if next(passed_over) == nil then order.record.passed_over = nil end
end

-- The first order that can be filled whole, among those on the pages of `channels` (fill.lua) that were read;
-- `units_of` is what a channel may take, `line_of` the line that waits.
-- -> {channel, index, order, line, units} or nil, and the orders and the bytes that were read
function complete_first.find(sku, channels, units_of, line_of)
  local at, units, searched, bytes = {}, {}, 0, 0
  for i, channel in ipairs(channels) do at[i], units[i] = channel.at, units_of(sku, channel.policy, false) end
  while searched < SEARCHED_MAX and bytes < SEARCHED_BYTES_MAX do
    local best
    for i, channel in ipairs(channels) do
      local entry = units[i] > 0 and channel.page[at[i]]
      if entry and (not best or queue.is_before(entry, channels[best].page[at[best]])) then best = i end
    end
    if not best then break end
    local channel, index = channels[best], at[best]
    local order = orders.get(channel.page[index][2])
    local line = line_of(order, sku.name)
    searched, bytes = searched + 1, bytes + #(order and order.packed or '')
    if line and not line.short and line.preordered <= units[best] then
      return {channel = channel, index = index, order = order, line = line, units = units[best]}, searched, bytes
    end
    at[best] = index + 1
  end
  return nil, searched, bytes
end

return complete_first
