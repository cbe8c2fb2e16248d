-- Choose the warehouses for `units` units: the one with the most free units, if it can supply all of them; else, if the
-- policy allows a split, all warehouses with free units, most free first (rule 6).
-- -> a flat list: the index of a warehouse's first number, its units, …; or nil

local skus = require('skus')

local function plan(sku, policy, units)
  local most, most_free, allowed, names = nil, units - 1, policy.allowed, sku.places.names
  local at = WAREHOUSE.first
  for i = 1, sku.places.count do
    local free = skus.free_at(sku, at)
    if free > most_free and (not allowed or allowed[names[i]]) then most, most_free = at, free end
    at = at + WAREHOUSE.size
  end
  if most then return {most, units} end
  if not policy.split then return nil end
  local positive = {}
  for i, warehouse in ipairs(names) do
    at = sku.places.at[warehouse]
    local free = skus.free_at(sku, at)
    if free > 0 and (not allowed or allowed[warehouse]) then positive[#positive + 1] = {at, free, i} end
  end
  table.sort(positive, function(a, b) return a[2] > b[2] or (a[2] == b[2] and a[3] < b[3]) end)
  local draws, left = {}, units
  for _, entry in ipairs(positive) do
    local take = math.min(left, entry[2])
    draws[#draws + 1], draws[#draws + 2] = entry[1], take
    left = left - take
    if left == 0 then return draws end
  end
  return nil
end

return {plan = plan}
