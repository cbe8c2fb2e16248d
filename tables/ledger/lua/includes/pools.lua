-- Pools (rules 28, 37): units of a warehouse that are set aside for a purpose. A pool is the counter
-- `reserved#<purpose>@<warehouse>` of its SKU; no order takes its units from the shelf. Its name is
-- `<purpose>@<warehouse>`.
-- A pool may have times, in the SKU's `pool_times` by its name: {from, until} in ms; until 0: none; from 0: it is open;
-- above 0: it opens then; ENDED: it has ended, and what orders give back goes to the shelf. pool_times.lua opens and
-- ends pools; until it does, a pool is as it was.

local batch = require('batch')
local sku_numbers = require('sku_numbers')
local skus = require('skus')

local POOLS_MAX = 256 -- of one SKU, over all purposes and warehouses: each order of the SKU reads them
local ENDED = -1
local NONE = {}
local ENDED_KEPT_MS = 90 * 24 * 3600000 -- after its end: until then orders may give back units of a pool
local ENDED_MAX = 256 -- of one SKU: those that ended last; a name has up to 257 bytes in the SKU's record

local function kind_of(purpose) return 'reserved#' .. purpose end

local function units_of(sku, purpose, warehouse) return skus.count_of(sku, kind_of(purpose), warehouse) end

local function times_of(sku, name) return sku.pool_times and sku.pool_times[name] end

local function has_ended(sku, name)
  local times = times_of(sku, name)
  return times and times[1] == ENDED
end

-- The units that orders may draw.
local function open_units(sku, purpose, warehouse)
  local times = sku.pool_times and sku.pool_times[purpose .. '@' .. warehouse]
  return times and times[1] ~= 0 and 0 or units_of(sku, purpose, warehouse)
end

local function has_more(a, b) return a.units > b.units or (a.units == b.units and a.at < b.at) end

-- The warehouses whose pools for `purposes` a channel may draw from, most units first: a list {at, warehouse, units}.
-- Units that are in a pool but not in the building cannot be drawn.
local function sources_of(sku, policy, purposes)
  local list, numbers, names = {}, sku.numbers, sku.places.names
  for at in pairs(numbers.pooled) do
    local warehouse, units = names[(at - WAREHOUSE.first) / WAREHOUSE.size + 1], 0
    if not policy.allowed or policy.allowed[warehouse] then
      for _, purpose in ipairs(purposes) do units = units + open_units(sku, purpose, warehouse) end
      units = math.min(units, sku_numbers.unheld_at(numbers, at))
    end
    if units > 0 then list[#list + 1] = {at = at, warehouse = warehouse, units = units} end
  end
  if #list > 1 then table.sort(list, has_more) end
  return list
end

-- Whether a SKU may have this pool.
local function has_room_for(sku, name)
  local counters, count = sku.counters or NONE, 0
  if counters['reserved#' .. name] then return true end
  for counter in pairs(counters) do
    if string.byte(counter) == 114 and string.sub(counter, 1, 9) == 'reserved#' then count = count + 1 end
  end
  for other, times in pairs(sku.pool_times or NONE) do
    if times[1] ~= ENDED and not counters['reserved#' .. other] then
      if other == name then return true end
      count = count + 1
    end
  end
  return count < POOLS_MAX
end

-- Move units between the shelf and a pool: the SKU is in `warehouse`.
local function change(sku, purpose, warehouse, units)
  local numbers, at = sku.numbers, sku.places.at[warehouse]
  skus.change(sku, kind_of(purpose), warehouse, units)
  sku.pools_changed = true
  local pooled = numbers.pooled or {}
  local sum = (pooled[at] or 0) + units
  pooled[at] = sum ~= 0 and sum or nil
  numbers.pooled = next(pooled) ~= nil and pooled
  sku.sum = sku.sum - units
end

-- Set the times of a pool; nil: none.
local function set_times(sku, name, times)
  sku.pool_times, sku.new_pool_times = sku.pool_times or {}, sku.new_pool_times or {}
  sku.pool_times[name], sku.new_pool_times[name] = times, times or {0, 0}
  sku.named_changed, sku.pools_changed = true, true
  if next(sku.pool_times) == nil then sku.pool_times = nil end
end

-- End a pool: its units go to the shelf. Pools that ended long ago are forgotten.
local function finish(sku, name)
  local purpose, warehouse = string.match(name, '^([^@]*)@(.*)$')
  local units = units_of(sku, purpose, warehouse)
  if units ~= 0 then change(sku, purpose, warehouse, -units) end
  set_times(sku, name, {ENDED, times_of(sku, name)[2]})
  local ended = {}
  for other, times in pairs(sku.pool_times) do
    if times[1] == ENDED then ended[#ended + 1] = {other, times[2]} end
  end
  table.sort(ended, function(a, b) return a[2] > b[2] or (a[2] == b[2] and a[1] < b[1]) end)
  for i, entry in ipairs(ended) do
    if i > ENDED_MAX or entry[2] < batch.now - ENDED_KEPT_MS then set_times(sku, entry[1], nil) end
  end
end

-- The times of a pool after `stock.reserved`: those that it gives; else those that the pool has, unless it has ended.
local function give_times(sku, name, from_at, until_at)
  if not from_at and not until_at then
    if has_ended(sku, name) then set_times(sku, name, nil) end
    return
  end
  from_at, until_at = from_at or 0, until_at or 0
  if from_at <= batch.now then from_at = 0 end
  set_times(sku, name, (from_at > 0 or until_at > 0) and {from_at, until_at} or nil)
end

return {
  units_of = units_of, open_units = open_units, sources_of = sources_of, has_ended = has_ended,
  has_room_for = has_room_for, change = change, set_times = set_times, finish = finish, give_times = give_times,
}
