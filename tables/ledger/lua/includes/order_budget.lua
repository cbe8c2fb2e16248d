-- How many orders a batch may look at where they follow from a change of stock: to fill them (fill.lua), or to move
-- what they hold (reroute.lua).

local batch = require('batch')

local BYTES_MAX = 131072 -- 128 KiB of records of orders per batch, or one order: some ms

local order_budget = {
  -- A record that has grown to this size takes no more warehouses: it must fit into a row (order_event_dispatch.lua).
  ORDER_BYTES_MAX = 1572864,
}
local spent, spent_bytes = 0, 0

function order_budget.has_room() return spent < batch.limits.fill_orders_max and spent_bytes < BYTES_MAX end

-- The orders that were looked at, and what finding them cost as much as.
function order_budget.spent() return spent end

-- `cost` in orders; `bytes` of records.
function order_budget.spend(cost, bytes)
  spent, spent_bytes = spent + cost, spent_bytes + bytes
end

return order_budget
