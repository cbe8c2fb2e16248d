-- The alerts of a batch (tables/ledger/records.py, Alert).
local list = {}

local function add(type, s, fields)
  fields.type, fields.sku = type, s and s.sku or nil
  list[#list + 1] = fields
end

return {list = list, add = add}
