-- The movements of a batch in memory: {warehouse, id, record, …}; `record` is the stored one
-- (tables/ledger/records.py, MovementRecord).
local known, included = {}, {}

local function key_of(warehouse, id) return warehouse .. '\n' .. id end

local function get(warehouse, id)
  local key = key_of(warehouse, id)
  local movement = known[key]
  if movement == nil then
    local packed = redis.call('GET', KEYS[1] .. 'movement:' .. key)
    movement = packed and {warehouse = warehouse, id = id, packed = packed, record = cmsgpack.unpack(packed)} or false
    known[key] = movement
  end
  return movement
end

return {known = known, included = included, key_of = key_of, get = get}
