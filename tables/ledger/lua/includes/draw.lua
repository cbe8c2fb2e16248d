-- Choose the warehouses for `units` units: the one with the most free units, if it can supply all of them; else, if the
-- policy allows a split, all warehouses with free units, most free first (rule 6).
-- -> a flat list: the index of a warehouse's first number, its units, …; or nil

local sku_numbers = require('sku_numbers')
local free_at = sku_numbers.free_at

-- The warehouses with free units, most free first: {{index of its first number, units, place}, …}
local function positive_of(sku, policy)
  local positive, allowed, names = {}, policy.allowed, sku.places.names
  sku_numbers.open_all(sku.numbers)
  for i, warehouse in ipairs(names) do
    local at = sku.places.at[warehouse]
    local free = free_at(sku.numbers, at)
    if free > 0 and (not allowed or allowed[warehouse]) then positive[#positive + 1] = {at, free, i} end
  end
  table.sort(positive, function(a, b) return a[2] > b[2] or (a[2] == b[2] and a[3] < b[3]) end)
  return positive
end

-- From all warehouses with free units, most free first.
local function split(sku, policy, units)
  local draws, left = {}, units
  for _, entry in ipairs(positive_of(sku, policy)) do
    local take = math.min(left, entry[2])
    draws[#draws + 1], draws[#draws + 2] = entry[1], take
    left = left - take
    if left == 0 then return draws end
  end
  return nil
end

-- Of a SKU in many warehouses: the first with the most free units, if they are `units`.
local function best_of_many(sku, policy, units)
  if not policy.warehouses then
    local best = sku_numbers.best(sku.numbers, sku.places.count)
    return free_at(sku.numbers, best) >= units and best or nil
  end
  local most, most_free = nil, units - 1
  for _, warehouse in ipairs(policy.warehouses) do
    local at = sku.places.at[warehouse]
    local free = at and free_at(sku.numbers, at) or most_free
    if free > most_free or (most and at and free == most_free and at < most) then most, most_free = at, free end
  end
  return most
end

local function best_of_few(sku, policy, units)
  local most, most_free, allowed, names = nil, units - 1, policy.allowed, sku.places.names
  local at = WAREHOUSE.first
  for i = 1, sku.places.count do
    local free = free_at(sku.numbers, at)
    if free > most_free and (not allowed or allowed[names[i]]) then most, most_free = at, free end
    at = at + WAREHOUSE.size
  end
  return most
end

local function plan(sku, policy, units)
  local most = (sku.totals and best_of_many or best_of_few)(sku, policy, units)
  if most then return {most, units} end
  return policy.split and split(sku, policy, units) or nil
end

local UNITS_BYTES = 9 -- of a line's units in a warehouse, beside the name

-- As many of `units` as the policy allows to draw (without `split` from one warehouse), the most free first. The names
-- of warehouses that `line` does not have yet take at most `room` bytes.
local function up_to(sku, policy, units, line, room)
  local most = (sku.totals and best_of_many or best_of_few)(sku, policy, units)
  local names, held, draws = sku.places.names, line.warehouses or {}, {}
  local entries = most and {{most, units, (most - WAREHOUSE.first) / WAREHOUSE.size + 1}} or positive_of(sku, policy)
  for _, entry in ipairs(entries) do
    local name = names[entry[3]]
    local bytes = held[name] and 0 or #name + UNITS_BYTES
    local take = math.min(units, entry[2])
    if take > 0 and bytes <= room then
      draws[#draws + 1], draws[#draws + 2] = entry[1], take
      units, room = units - take, room - bytes
      if not policy.split then break end
    end
  end
  return draws
end

return {plan = plan, up_to = up_to, UNITS_BYTES = UNITS_BYTES}
