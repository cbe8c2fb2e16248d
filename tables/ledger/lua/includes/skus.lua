-- The SKUs of a batch in memory (includes/sku_record.lua), and the log of their changes. Only `change` and `change_at`
-- change counters.

local sku_record = require('sku_record')

local known, changed = {}, {}
-- The effects as one flat list (tables/ledger/raw_decision.py, unpack_effects): per change of a SKU its index in
-- `changed`, version, cause, number of deltas, and for each delta its counter and units. `size`: how much is in use.
local log, causes = {size = 0}, {}

local function open(name, packed)
  local s = sku_record.read(name, packed)
  if s.modes then
    for _, side in pairs(s.modes) do
      if side[3] ~= 0 then s.waits = s.waits or side[3] end
    end
  end
  known[name] = s
  return s
end

local function new(name)
  local s = sku_record.new(name)
  s.is_new = true
  known[name] = s
  return s
end

local function get(name)
  local s = known[name]
  if s == nil then
    local packed = redis.call('GET', KEYS[1] .. 'sku:' .. name)
    s = packed and open(name, packed) or false
    known[name] = s
  end
  return s
end

local function get_or_new(name) return get(name) or new(name) end

-- Of one SKU. A warehouse with a name of 128 bytes takes 1 KB of the row of `stock`, which must fit into 4 MiB.
local WAREHOUSES_MAX = 2000

local function has_room_for(s, w)
  return s.places.at[w] ~= nil or s.places.count < WAREHOUSES_MAX
end

local function ensure_warehouse(s, w)
  if s.places.at[w] then return end
  if s.places.count == 0 then s.starting = true end
  sku_record.add_warehouse(s, w)
  s.added = s.added or {}
  s.added[#s.added + 1] = w
end

-- The units free at a warehouse, given the index of its first number.
local function free_at(s, at)
  local r = s.r
  return r[at + WAREHOUSE.on_hand] - r[at + WAREHOUSE.committed] - r[at + WAREHOUSE.locked]
end

-- -> nil if the SKU was never there
local function free_of(s, w)
  local at = s.places.at[w]
  return at and free_at(s, at)
end

local function mark_dirty(s)
  if s.dirty then return end
  s.dirty = true
  changed[#changed + 1] = s
  s.place = #changed - 1
end

-- Begin a change of a SKU; `change` adds its deltas; `finish` (modes.lua) ends it with a new version.
local function begin(s)
  mark_dirty(s)
  s.logged_from, s.sum_was = log.size, s.sum
  log.size = log.size + 4
end

local KINDS = WAREHOUSE.size
local WIDTH_MAX = sku_record.NARROW_MAX

local function log_delta(counter, n)
  local size = log.size
  log[size + 1] = counter
  log[size + 2] = n
  log.size = size + 2
end

-- Change a number of the warehouse whose first number is `r[at]`; `kind`: an offset of WAREHOUSE.
local function change_at(s, at, kind, n)
  if n == 0 then return end
  local r = s.r
  local value = r[at + kind] + n
  r[at + kind] = value
  if value > WIDTH_MAX or value < -WIDTH_MAX then sku_record.widen(s) end
  if kind == WAREHOUSE.on_hand then
    s.sum = s.sum + n
  elseif kind ~= WAREHOUSE.damaged then
    s.sum = s.sum - n
  end
  log_delta(at - WAREHOUSE.first + kind, n)
end

local OFFSETS = {
  on_hand = WAREHOUSE.on_hand, committed = WAREHOUSE.committed, locked = WAREHOUSE.locked, damaged = WAREHOUSE.damaged,
}

local function change(s, kind, where, n)
  if n == 0 then return end
  local offset = OFFSETS[kind]
  if offset then return change_at(s, s.places.at[where], offset, n) end
  local counter = kind .. '@' .. where
  s.counters = s.counters or {}
  local value = (s.counters[counter] or 0) + n
  s.counters[counter] = value ~= 0 and value or nil
  log_delta(counter, n)
end

local function count_of(s, kind, where)
  local offset, at = OFFSETS[kind], s.places.at[where]
  if offset then return at and s.r[at + offset] or 0 end
  return s.counters and s.counters[kind .. '@' .. where] or 0
end

-- The name of a counter of the log.
local KIND_NAMES = {'on_hand@', 'committed@', 'locked@', 'damaged@'} -- in the order of WAREHOUSE

local function counter_name(s, counter)
  if type(counter) == 'string' then return counter end
  return KIND_NAMES[counter % KINDS + 1] .. s.places.names[math.floor(counter / KINDS) + 1]
end

return {
  known = known, changed = changed, log = log, causes = causes, open = open, new = new, get = get,
  get_or_new = get_or_new, has_room_for = has_room_for, ensure_warehouse = ensure_warehouse, free_at = free_at,
  free_of = free_of, mark_dirty = mark_dirty, begin = begin, log_delta = log_delta, change_at = change_at,
  change = change, count_of = count_of, counter_name = counter_name,
}
