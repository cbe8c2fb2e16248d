-- reserve, release {warehouse, purpose, lines = {{sku, units}, …}, from_at, until_at}: units go from the shelf into a
-- pool, or back (37).
-- All lines are applied in one call, because a later call might find other units.

local batch = require('batch')
local modes = require('modes')
local movement_steps = require('movement_steps')
local pool_times = require('pool_times')
local pools = require('pools')
local prefetch = require('prefetch')
local skus = require('skus')

-- The units at a warehouse that are not promised to an order; those that are promised may come from any warehouse.
local function unpromised(sku, warehouse)
  local free = skus.free_of(sku, warehouse) or 0
  return sku.promised and math.min(free, sku.sum) or free
end

-- -> why a line cannot be applied, and which of its fields is wrong
local function refusal_of_line(command, sku, units)
  if not sku then return O.UNKNOWN_SKU, 'sku' end
  local warehouse, purpose = command.warehouse, command.purpose
  if command.kind == 'release' then
    if units > pools.units_of(sku, purpose, warehouse) then return O.MORE_THAN_RESERVED, 'quantity' end
  elseif units > unpromised(sku, warehouse) then
    return O.MORE_THAN_AVAILABLE, 'quantity'
  elseif not pools.has_room_for(sku, purpose .. '@' .. warehouse) then
    return O.TOO_LARGE, 'sku'
  end
end

-- -> a refusal and its path, or nil
local function refusal(command)
  local names, limits = {}, batch.limits
  for i, line in ipairs(command.lines) do names[i] = line[1] end
  if #names > limits.lines_per_step and #prefetch.names_within('sku:', names, limits.step_bytes_max) < #names then
    return O.TOO_LARGE, 'the records of its SKUs are too large for one step: divide it'
  end
  prefetch.skus_named(names)
  for i = 1, #names do
    local sku = skus.get(names[i])
    if sku and sku.pool_times then pool_times.settle(sku) end
  end
  if command.until_at and command.until_at <= batch.now then return O.POOL_ENDED, 'until' end
  for i, line in ipairs(command.lines) do
    local outcome, field = refusal_of_line(command, skus.get(line[1]), line[2])
    if outcome then return outcome, 'lines[' .. (i - 1) .. '].' .. field end
  end
end

local function apply(command, cause, sku_name, units, outcome)
  local sku, warehouse = skus.get(sku_name), command.warehouse
  local was, damaged = skus.count_of(sku, 'on_hand', warehouse), skus.count_of(sku, 'damaged', warehouse)
  skus.begin(sku)
  pools.change(sku, command.purpose, warehouse, outcome == O.RELEASED and -units or units)
  if outcome == O.RESERVED then
    pools.give_times(sku, command.purpose .. '@' .. warehouse, command.from_at, command.until_at)
  end
  modes.finish(sku, cause)
  if sku.new_pool_times then modes.note_dwells(sku) end
  return movement_steps.line_result(sku, sku_name, units, outcome, warehouse, was, damaged)
end

local function reserve(command, cause, sku_name, units) return apply(command, cause, sku_name, units, O.RESERVED) end
local function release(command, cause, sku_name, units) return apply(command, cause, sku_name, units, O.RELEASED) end

return {refusal = refusal, reserve = reserve, release = release}
