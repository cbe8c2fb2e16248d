-- Choose the warehouses for `n` units: the one with the most free units, if it can supply all of them; else, if the
-- policy allows a split, all warehouses with free units, most free first (rule 6).
-- -> a flat list: the index of a warehouse's first number, its units, …; or nil

local skus = require('skus')

local function plan(s, p, n)
  local most, most_free, allowed, names = nil, n - 1, p.allowed, s.places.names
  local at = WAREHOUSE.first
  for i = 1, s.places.count do
    local free = skus.free_at(s, at)
    if free > most_free and (not allowed or allowed[names[i]]) then most, most_free = at, free end
    at = at + WAREHOUSE.size
  end
  if most then return {most, n} end
  if not p.split then return nil end
  local positive = {}
  for i, w in ipairs(names) do
    at = s.places.at[w]
    local free = skus.free_at(s, at)
    if free > 0 and (not allowed or allowed[w]) then positive[#positive + 1] = {at, free, i} end
  end
  table.sort(positive, function(a, b) return a[2] > b[2] or (a[2] == b[2] and a[3] < b[3]) end)
  local draws, left = {}, n
  for _, entry in ipairs(positive) do
    local take = math.min(left, entry[2])
    draws[#draws + 1], draws[#draws + 2] = entry[1], take
    left = left - take
    if left == 0 then return draws end
  end
  return nil
end

return {plan = plan}
