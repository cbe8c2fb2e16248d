-- How many unpaid units a channel and its buyers hold (docs/rules.md, 21a). Counted are the open units of orders that
-- were placed under a limit (`bounded`) until they are paid or end. A group is a channel, or `<channel>\n<buyer>`.
-- Key `unpaid:<group>`, a zset: order_id by its unpaid units. Key `unpaid`, a hash: their sum by group
-- (unpaid_keys.lua).

local batch = require('batch')
local orders = require('orders')
local registry = require('registry')
local unpaid_keys = require('unpaid_keys')

local unpaid = {}
local sums = {} -- by group: with the changes of this batch
local noted = {} -- orders, once each

local function sum_of(group)
  sums[group] = sums[group] or unpaid_keys.sum(KEYS[1], group)
  return sums[group]
end

local function add(group, units) sums[group] = sum_of(group) + units end

local function group_of_buyer(channel, buyer) return channel .. '\n' .. buyer end

-- The units of an order that count.
local function units_of(record)
  if not record.bounded or record.state ~= 'reserved' then return 0 end
  local units = 0
  for _, line in ipairs(record.lines) do units = units + orders.open_units(line) end
  return units
end

-- Must be called before the first change of a stored order.
function unpaid.begin(order) order.unpaid = units_of(order.record) end

-- Must be called after each change of the unpaid units of an order.
function unpaid.note(order)
  local record, units = order.record, units_of(order.record)
  local change = units - (order.unpaid or 0)
  if change == 0 and not order.must_count then return end
  if not order.counted then
    order.counted = true
    noted[#noted + 1] = order
  end
  order.unpaid = units
  add(record.channel, change)
  if record.buyer then add(group_of_buyer(record.channel, record.buyer), change) end
end

-- The limits of a channel, or nil if it has none.
function unpaid.limits_of(channel)
  local known = registry.channels[channel]
  local policy = known and known.policy
  return policy and (policy.held_units_max or policy.buyer_units_max) and policy or nil
end

-- The unpaid units that an order may hold more under `limits`.
function unpaid.room(limits, channel, buyer)
  local room = math.huge
  if limits.held_units_max then room = limits.held_units_max - sum_of(channel) end
  if buyer and limits.buyer_units_max then
    room = math.min(room, limits.buyer_units_max - sum_of(group_of_buyer(channel, buyer)))
  end
  return room
end

batch.writers[#batch.writers + 1] = function()
  local changes = {}
  local function put(group, order)
    local list = changes[group] or {add = {}, drop = {}}
    changes[group] = list
    local entries = order.unpaid > 0 and list.add or list.drop
    if order.unpaid > 0 then entries[1 + #entries] = order.unpaid end
    entries[1 + #entries] = order.id
  end
  for _, order in ipairs(noted) do
    local record = order.record
    put(record.channel, order)
    if record.buyer then put(group_of_buyer(record.channel, record.buyer), order) end
  end
  for group, list in pairs(changes) do unpaid_keys.write(KEYS[1], 'unpaid:' .. group, list.add, list.drop) end
end

return unpaid
