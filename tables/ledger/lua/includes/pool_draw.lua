-- Orders that draw from pools (rule 28). A line with units from pools remembers them in `pools`,
-- `<purpose>@<warehouse>` -> units; they are among its `warehouses` too.

local offer = require('offer')
local orders = require('orders')
local pools = require('pools')
local sku_numbers = require('sku_numbers')
local skus = require('skus')

local NONE = {}

-- What a line draws from pools: a list {at, warehouse, purpose, units}, and the sum. Without a split it is of one
-- warehouse.
local function parts_of(sku, policy, purposes, units)
  local parts, left = {}, units
  for i, source in ipairs(pools.sources_of(sku, policy, purposes)) do
    if left == 0 or (i > 1 and not policy.split) then break end
    local here = math.min(left, source.units)
    left = left - here
    for _, purpose in ipairs(purposes) do
      local taken = math.min(here, pools.open_units(sku, purpose, source.warehouse))
      here = here - taken
      if taken > 0 then
        parts[#parts + 1] = {at = source.at, warehouse = source.warehouse, purpose = purpose, units = taken}
      end
    end
  end
  return parts, units - left
end

-- The purposes from which a line draws: its order's, then those of its channel. No pool has a purpose with an `@`.
local function purposes_of(command, policy)
  local named, purposes = command.purpose, {}
  if named and not string.find(named, '@', 1, true) then purposes[1] = named end
  for _, purpose in ipairs(policy.purposes or NONE) do
    if purpose ~= named then purposes[#purposes + 1] = purpose end
  end
  return purposes
end

-- The draws of a sold line without a split, from the shelf of its pools' warehouse: the planned ones are where most is
-- free.
local function moved_to(sku, at, draws)
  local units = #draws > 0 and math.min(draws[2], sku_numbers.free_at(sku.numbers, at)) or 0
  return units > 0 and {at, units} or NONE
end

-- Plan a line of a SKU with pools; `plan_shelf` plans what it takes under the channel's rules. A channel that is in
-- stock by its own pools alone takes no preorder.
-- -> as `plan_line` in place.lua, and its parts from pools or nil
local function plan(command, sku, policy, units, plan_shelf)
  local parts, drawn = parts_of(sku, policy, purposes_of(command, policy), units)
  if drawn == 0 then return plan_shelf(command, sku, policy, units) end
  if drawn == units then return 'reserve', NONE, parts end
  local rest = units - drawn
  local kind, detail = plan_shelf(command, sku, policy, rest)
  if kind == 'sold' then return kind, policy.split and detail or moved_to(sku, parts[1].at, detail), parts end
  if kind ~= 'reserve' and policy.purposes and offer.of(sku, command.channel, policy) == 'in_stock' then
    return nil, O.INSUFFICIENT_STOCK
  end
  if kind == 'reserve' and not policy.split and detail[1] ~= parts[1].at then
    if sku_numbers.free_at(sku.numbers, parts[1].at) < rest then return plan_shelf(command, sku, policy, units) end
    detail = {parts[1].at, rest}
  end
  return kind, detail, kind and parts
end

-- Hold the parts of a line: `counter` is that of held units in WAREHOUSE. -> their sum
local function hold(sku, line, parts, counter)
  local drawn = 0
  line.pools = line.pools or {}
  for _, part in ipairs(parts) do
    skus.change_at(sku, part.at, counter, part.units)
    pools.change(sku, part.purpose, part.warehouse, -part.units)
    orders.put_units(line, part.warehouse, part.units)
    orders.add_to(line.pools, part.purpose .. '@' .. part.warehouse, part.units)
    drawn = drawn + part.units
  end
  return drawn
end

-- The held units of a line, {{warehouse, units}, …}, divided into those from the shelf and those from pools.
local function divided(line, held)
  local pooled, parts = {}, {}
  for name, units in pairs(line.pools) do
    orders.add_to(pooled, string.match(name, '^[^@]*@(.*)$'), units)
  end
  for _, entry in ipairs(held) do
    local warehouse, units = entry[1], pooled[entry[1]] or 0
    parts[#parts + 1] = {warehouse, entry[2] - units, is_shelf = true}
    if units > 0 then parts[#parts + 1] = {warehouse, units, is_shelf = false} end
  end
  return parts
end

-- A line gives up `units` at a warehouse, those from pools first. `is_back`: these return to their pools, or to the
-- shelf if the pool has ended; else they were shipped.
local function give_up(sku, line, warehouse, units, is_back)
  local names = {}
  for name in pairs(line.pools) do
    if string.match(name, '^[^@]*@(.*)$') == warehouse then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local given = math.min(units, line.pools[name])
    units = units - given
    orders.add_to(line.pools, name, -given)
    if is_back and given > 0 and not pools.has_ended(sku, name) then
      pools.change(sku, string.match(name, '^[^@]*'), warehouse, given)
    end
  end
  if next(line.pools) == nil then line.pools = nil end
end

-- The approximate size of a line's parts in the order's record.
local function bytes_of(parts)
  local bytes = 0
  for _, part in ipairs(parts) do bytes = bytes + 2 * #part.warehouse + #part.purpose + 16 end
  return bytes
end

return {plan = plan, hold = hold, divided = divided, give_up = give_up, bytes_of = bytes_of}
