-- The alerts of a batch (tables/ledger/records.py, Alert).
local list = {}

local function add(type, sku, fields)
  fields.type, fields.sku = type, sku and sku.name or nil
  list[#list + 1] = fields
end

return {list = list, add = add}
