-- Choose the warehouses for `n` units: the one with the most free units, if it can supply all of them; else, if the
-- policy allows a split, all warehouses with free units, most free first (rule 6).
-- -> a flat list: the index of a warehouse's first number, its units, …; or nil
local draw
do

-- From all warehouses with free units, most free first.
local function split_draw(s, p, n)
  local positive, allowed, names = {}, p.allowed, s.places.names
  sku_record.open_all(s.r)
  for i, w in ipairs(names) do
    local at = s.places.at[w]
    local free = free_at(s, at)
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

-- Of a SKU in many warehouses: the first with the most free units, if they are `n`.
local function best_of_many(s, p, n)
  local most, most_free = nil, n - 1
  if not p.warehouses then
    most = sku_record.best(s)
    return free_at(s, most) >= n and most or nil
  end
  for _, w in ipairs(p.warehouses) do
    local at = s.places.at[w]
    local free = at and free_at(s, at) or most_free
    if free > most_free or (most and at and free == most_free and at < most) then most, most_free = at, free end
  end
  return most
end

function draw(s, p, n)
  local most, most_free, allowed, names = nil, n - 1, p.allowed, s.places.names
  if s.totals then
    most = best_of_many(s, p, n)
  else
    local at = WAREHOUSE.first
    for i = 1, s.places.count do
      local free = free_at(s, at)
      if free > most_free and (not allowed or allowed[names[i]]) then most, most_free = at, free end
      at = at + WAREHOUSE.size
    end
  end
  if most then return {most, n} end
  return p.split and split_draw(s, p, n) or nil
end

end
