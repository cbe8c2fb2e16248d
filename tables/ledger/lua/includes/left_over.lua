-- The index `fills`: the SKUs whose moves (reroute.lua) and fills (fill.lua) a later step goes on with.

local batch = require('batch')
local prefetch = require('prefetch')
local sku_record = require('sku_record')
local skus = require('skus')

-- SKUs that a step goes on with, and the bytes of their records: some ms.
local SKUS_PER_STEP, SKU_BYTES_MAX = 32, 65536

local left_over = {}
local noted = {} -- by SKU: the SKU, or false

-- Must be called after a change of what is left over.
function left_over.note(sku) noted[sku.name] = sku end

-- Some of the SKUs that earlier batches left over, each in turn; nil if there is none.
function left_over.some()
  local count = redis.call('ZCARD', KEYS[1] .. 'fills')
  if count == 0 then return nil end
  local place, list = batch.number * SKUS_PER_STEP % count, {}
  local names = redis.call('ZRANGE', KEYS[1] .. 'fills', place, place + SKUS_PER_STEP - 1)
  names = prefetch.names_within('sku:', names, SKU_BYTES_MAX)
  prefetch.skus_named(names)
  for _, sku_name in ipairs(names) do
    local sku = skus.get(sku_name)
    if sku and sku_record.has_left_over(sku) then list[#list + 1] = sku else noted[sku_name] = sku or false end
  end
  return list
end

batch.writers[#batch.writers + 1] = function()
  local lists = {add = {}, drop = {}}
  for sku_name, sku in pairs(noted) do
    local list = sku and sku_record.has_left_over(sku) and lists.add or lists.drop
    if list == lists.add then list[#list + 1] = 0 end
    list[#list + 1] = sku_name
  end
  require('indexes').write('fills', lists)
end

return left_over
