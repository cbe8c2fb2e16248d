-- Pools (rules 28, 37): units of a warehouse that are set aside for a purpose. A pool is the counter
-- `reserved#<purpose>@<warehouse>` of its SKU; no order takes its units from the shelf.

local skus = require('skus')

local POOLS_MAX = 256 -- of one SKU, over all purposes and warehouses: each order of the SKU reads them

local function kind_of(purpose) return 'reserved#' .. purpose end

local function units_of(sku, purpose, warehouse) return skus.count_of(sku, kind_of(purpose), warehouse) end

-- Whether a SKU may have this pool.
local function has_room_for(sku, purpose, warehouse)
  if units_of(sku, purpose, warehouse) ~= 0 then return true end
  local count = 0
  for name in pairs(sku.counters or {}) do
    if string.sub(name, 1, 9) == 'reserved#' then count = count + 1 end
  end
  return count < POOLS_MAX
end

-- Move units between the shelf and a pool: the SKU is in `warehouse`.
local function change(sku, purpose, warehouse, units)
  local numbers, at = sku.numbers, sku.places.at[warehouse]
  skus.change(sku, kind_of(purpose), warehouse, units)
  local pooled = numbers.pooled or {}
  local sum = (pooled[at] or 0) + units
  pooled[at] = sum ~= 0 and sum or nil
  numbers.pooled = next(pooled) ~= nil and pooled
  sku.sum = sku.sum - units
end

return {units_of = units_of, has_room_for = has_room_for, change = change}
