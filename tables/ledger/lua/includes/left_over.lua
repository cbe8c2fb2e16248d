-- The index `fills`: the SKUs whose moves (reroute.lua) and fills (fill.lua) a later step goes on with.

local batch = require('batch')
local sku_record = require('sku_record')
local skus = require('skus')

local left_over = {}
local noted = {} -- by SKU: the SKU, or false

-- Must be called after a change of what is left over.
function left_over.note(sku) noted[sku.name] = sku end

-- A SKU that an earlier batch left over, each in turn; false if nothing is to be done for it any more; nil if there is
-- none.
function left_over.next()
  local count = redis.call('ZCARD', KEYS[1] .. 'fills')
  if count == 0 then return nil end
  local place = batch.number % count
  local sku_name = redis.call('ZRANGE', KEYS[1] .. 'fills', place, place)[1]
  local sku = skus.get(sku_name)
  if sku and sku_record.has_left_over(sku) then return sku end
  noted[sku_name] = sku
  return false
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
