-- Choose the warehouses for `n` units: the one with the most free units, if it can supply all of them; else, if the
-- policy allows a split, all warehouses with free units, most free first (rule 6).
-- -> {{warehouse, units}, …} or nil
local function draw(s, p, n)
  local most, most_free = nil, n - 1
  for _, w in ipairs(s.r.warehouses) do
    local free = s.free[w]
    if free > most_free and (not p.allowed or p.allowed[w]) then most, most_free = w, free end
  end
  if most then return {{most, n}} end
  if not p.split then return nil end
  local positive = {}
  for i, w in ipairs(s.r.warehouses) do
    local free = s.free[w]
    if free > 0 and (not p.allowed or p.allowed[w]) then positive[#positive + 1] = {w, free, i} end
  end
  table.sort(positive, function(a, b) return a[2] > b[2] or (a[2] == b[2] and a[3] < b[3]) end)
  local draws, left = {}, n
  for _, entry in ipairs(positive) do
    local take = math.min(left, entry[2])
    draws[#draws + 1] = {entry[1], take}
    left = left - take
    if left == 0 then return draws end
  end
  return nil
end
