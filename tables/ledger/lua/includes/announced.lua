-- The announced units of a SKU that are to come: `announced` maps <warehouse>\n<id> to {eta, units, free}; the `free`
-- ones are promised to no line (promises.lua).

local warehouse_of = setmetatable({}, {__index = function(known, key)
  local warehouse = string.match(key, '^(.-)\n')
  known[key] = warehouse
  return warehouse
end})

-- Whether a waiting line of a channel can be filled with what comes under `key`: a fill draws from the shelf alone.
local function allows(policy, key)
  if policy.pool_only then return false end
  return not policy.allowed or policy.allowed[warehouse_of[key]] ~= nil
end

-- Whether two policies allow the same.
local function allows_same(policy, other)
  local one, two = policy.allowed, other.allowed
  if policy.pool_only ~= other.pool_only or (one ~= nil) ~= (two ~= nil) then return false end
  for warehouse in pairs(one or {}) do
    if not two[warehouse] then return false end
  end
  for warehouse in pairs(two or {}) do
    if not one[warehouse] then return false end
  end
  return true
end

-- The keys by `eta`, then id, then warehouse; kept until an announcement changes.
local function by_eta(sku)
  if sku.by_eta then return sku.by_eta end
  local rows, keys = {}, {}
  for key, each in pairs(sku.announced or {}) do
    rows[#rows + 1] = {key = key, eta = each[1], id = string.sub(key, #warehouse_of[key] + 2)}
  end
  table.sort(rows, function(a, b)
    if a.eta ~= b.eta then return a.eta < b.eta end
    return a.id < b.id or (a.id == b.id and a.key < b.key)
  end)
  for i, row in ipairs(rows) do keys[i] = row.key end
  sku.by_eta = keys
  return keys
end

-- Take up to `units` from `left` (key -> units), earliest first; without a policy from any. -> the eta of the last
-- announcement that they need, or nil if there are not as many
local function take(sku, left, policy, units)
  local eta
  if next(left) == nil then return nil end
  for _, key in ipairs(by_eta(sku)) do
    if units == 0 then break end
    if left[key] and (not policy or allows(policy, key)) then
      local taken = math.min(units, left[key], sku.announced[key][2])
      left[key] = left[key] > taken and left[key] - taken or nil
      units, eta = units - taken, sku.announced[key][1]
    end
  end
  return units == 0 and eta or nil
end

-- When the next preordered unit of a channel is promised, or nil.
local function next_date(sku, policy)
  for _, key in ipairs(by_eta(sku)) do
    if sku.announced[key][3] > 0 and allows(policy, key) then return sku.announced[key][1] end
  end
end

return {allows_same = allows_same, take = take, next_date = next_date}
