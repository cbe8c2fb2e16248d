-- Pools that open and end by time: in the expiry step (tick.lua), and of a SKU before a decision on it.

local batch = require('batch')
local modes = require('modes')
local pools = require('pools')
local skus = require('skus')

local DUE_MAX = 200 -- pools that one call opens or ends; the expiry step goes on with the rest
local left = DUE_MAX

local function is_due(times)
  if times[1] > 0 then return batch.now >= times[1] end
  return times[1] == 0 and times[2] > 0 and batch.now >= times[2]
end

-- Open and end the pools that are due, of a SKU whose pools have times. -> whether there were any
local function settle(sku)
  local names
  for name, times in pairs(sku.pool_times) do
    if is_due(times) then
      names = names or {}
      names[#names + 1] = name
    end
  end
  if not names or left == 0 then return false end
  table.sort(names)
  skus.begin(sku)
  for i = 1, math.min(#names, left) do
    local until_at = sku.pool_times[names[i]][2]
    if until_at > 0 and batch.now >= until_at then
      pools.finish(sku, names[i])
    else
      pools.set_times(sku, names[i], until_at > 0 and {0, until_at} or nil)
    end
  end
  left = math.max(0, left - #names)
  modes.finish(sku, {'pool_due', '', sku.name})
  modes.note_dwells(sku)
  return true
end

return {settle = settle}
