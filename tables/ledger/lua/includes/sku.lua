-- A SKU in memory: `s = {sku, r, free, sum, deltas, was}`; `r` is its record (tables/ledger/records.py, SkuRecord),
-- `s.free[w]` the units available at warehouse w, `s.sum` those of all. Only `change` changes counters.
local skus, sku_order = {}, {}

local function named(kind)
  return setmetatable({}, {__index = function(names, suffix)
    local name = kind .. suffix
    names[suffix] = name
    return name
  end})
end
local COUNTER = {
  on_hand = named('on_hand@'), committed = named('committed@'), locked = named('locked@'),
  damaged = named('damaged@'), preordered = named('preordered@'),
}
-- The effect of one unit of a counter on the available units of its warehouse. Pools (`reserved#purpose@w`) join here.
local FREE = {on_hand = 1, committed = -1, locked = -1}

local function open_sku(sku, packed)
  local r = unpack_all(packed)
  r.counters, r.warehouses, r.modes = r.counters or {}, r.warehouses or {}, r.modes or {}
  r.policies = r.policies or {}
  local s = {sku = sku, r = r, free = {}, sum = 0}
  local counters = r.counters
  for _, w in ipairs(r.warehouses) do
    local free = (counters[COUNTER.on_hand[w]] or 0) - (counters[COUNTER.committed[w]] or 0)
      - (counters[COUNTER.locked[w]] or 0)
    s.free[w] = free
    s.sum = s.sum + free
  end
  for _, side in pairs(r.modes) do s.waits = s.waits or side.due end
  skus[sku] = s
  return s
end

local function new_sku(sku)
  local r = {version = 0, at = 0, counters = {}, warehouses = {}, modes = {}, policies = {}}
  local s = {sku = sku, r = r, free = {}, sum = 0, is_new = true}
  skus[sku] = s
  return s
end

local function get_sku(sku)
  local s = skus[sku]
  if s == nil then
    local packed = redis.call('GET', KEYS[1] .. 'sku:' .. sku)
    s = packed and open_sku(sku, packed) or false
    skus[sku] = s
  end
  return s
end

-- Of one SKU. A warehouse with a name of 128 bytes takes 1 KB of the row of `stock`, which must fit into 4 MiB.
local WAREHOUSES_MAX = 2000

local function has_room_for(s, w)
  return s.free[w] ~= nil or #s.r.warehouses < WAREHOUSES_MAX
end

local function ensure_warehouse(s, w)
  if s.free[w] then return end
  if #s.r.warehouses == 0 then s.starting = true end
  s.r.warehouses[#s.r.warehouses + 1] = w
  s.added = s.added or {}
  s.added[#s.added + 1] = w
  s.free[w] = 0
end

-- Begin a change of a SKU; `change` collects its deltas; `finish` (modes.lua) ends it with a new version.
local function begin(s)
  s.deltas, s.was, s.sum_was = {}, {}, s.sum
end

local function change(s, kind, where, n)
  if n == 0 then return end
  local name = COUNTER[kind][where]
  local counters, deltas = s.r.counters, s.deltas
  local value = (counters[name] or 0) + n
  if value == 0 then counters[name] = nil else counters[name] = value end
  deltas[name] = (deltas[name] or 0) + n
  local sign = FREE[kind]
  if sign then
    if s.was[where] == nil then s.was[where] = s.free[where] end
    s.free[where] = s.free[where] + sign * n
    s.sum = s.sum + sign * n
  end
end

local function count_of(s, kind, where)
  return s.r.counters[COUNTER[kind][where]] or 0
end
