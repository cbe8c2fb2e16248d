-- The movements of a batch in memory: `m = {warehouse, id, r, …}`; `r` is the stored record
-- (tables/ledger/records.py, MovementRecord).
local known, included = {}, {}

local function key_of(warehouse, id) return warehouse .. '\n' .. id end

local function get(warehouse, id)
  local key = key_of(warehouse, id)
  local m = known[key]
  if m == nil then
    local packed = redis.call('GET', KEYS[1] .. 'movement:' .. key)
    m = packed and {warehouse = warehouse, id = id, packed = packed, r = cmsgpack.unpack(packed)} or false
    known[key] = m
  end
  return m
end

return {known = known, included = included, key_of = key_of, get = get}
