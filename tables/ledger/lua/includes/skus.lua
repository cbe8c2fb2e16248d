-- The SKUs of a batch in memory (includes/sku_record.lua), and the log of their changes. Only `change` and `change_at`
-- change counters.

local sku_numbers = require('sku_numbers')
local sku_record = require('sku_record')

local known, changed = {}, {}
-- The effects as one flat list (tables/ledger/raw_decision.py, unpack_effects): per change of a SKU its index in
-- `changed`, version, cause, number of deltas, and for each delta its counter and units. `size`: how much is in use.
local log, causes = {size = 0}, {}

local function open(name, packed)
  local sku = sku_record.read(name, packed)
  if sku.modes then
    for _, side in pairs(sku.modes) do
      if side[3] ~= 0 then sku.waits = sku.waits or side[3] end
    end
  end
  known[name] = sku
  return sku
end

local function new(name)
  local sku = sku_record.new(name)
  sku.is_new = true
  known[name] = sku
  return sku
end

local function get(name)
  local sku = known[name]
  if sku == nil then
    local packed = redis.call('GET', KEYS[1] .. 'sku:' .. name)
    sku = packed and open(name, packed) or false
    known[name] = sku
  end
  return sku
end

local function get_or_new(name) return get(name) or new(name) end

-- Of one SKU. A warehouse with a name of 128 bytes takes 1 KB of the row of `stock`, which must fit into 4 MiB.
local WAREHOUSES_MAX = 2000

local function has_room_for(sku, warehouse)
  return sku.places.at[warehouse] ~= nil or sku.places.count < WAREHOUSES_MAX
end

local function ensure_warehouse(sku, warehouse)
  if sku.places.at[warehouse] then return end
  if sku.places.count == 0 then sku.starting = true end
  sku_record.add_warehouse(sku, warehouse)
  sku.added = sku.added or {}
  sku.added[#sku.added + 1] = warehouse
end

-- -> nil if the SKU was never there
local function free_of(sku, warehouse)
  local at = sku.places.at[warehouse]
  return at and sku_numbers.free_at(sku.numbers, at)
end

local function mark_dirty(sku)
  if sku.dirty then return end
  sku.dirty = true
  changed[#changed + 1] = sku
  sku.place = #changed - 1
end

-- Begin a change of a SKU; `change` adds its deltas; `finish` (modes.lua) ends it with a new version.
local function begin(sku)
  mark_dirty(sku)
  sku.logged_from, sku.sum_was, sku.promised_was = log.size, sku.sum, sku.promised
  log.size = log.size + 4
end

local KINDS = WAREHOUSE.size
local fits = sku_numbers.fits

local function log_delta(counter, units)
  local size = log.size
  log[size + 1] = counter
  log[size + 2] = units
  log.size = size + 2
end

-- Change a number of the warehouse whose first number is `numbers[at]`; `kind`: an offset of WAREHOUSE.
local function change_at(sku, at, kind, units)
  if units == 0 then return end
  local numbers = sku.numbers
  local value = numbers[at + kind] + units
  numbers[at + kind] = value
  if not fits(value) then sku_record.widen(sku) end
  if kind == WAREHOUSE.on_hand then
    sku.sum = sku.sum + units
  elseif kind ~= WAREHOUSE.damaged then
    sku.sum = sku.sum - units
  end
  local totals, size = sku.totals, log.size
  if totals then totals[kind + 1] = totals[kind + 1] + units end
  log[size + 1], log[size + 2], log.size = at - WAREHOUSE.first + kind, units, size + 2
end

local OFFSETS = sku_record.OFFSETS

-- Change a counter that is not among the numbers.
local function change_named(sku, counter, units)
  if units == 0 then return end
  sku.counters, sku.named_changed = sku.counters or {}, true
  local value = (sku.counters[counter] or 0) + units
  sku.counters[counter] = value ~= 0 and value or nil
  log_delta(counter, units)
end

-- Count units of a kind for which orders wait.
local function queue_units(sku, kind, units)
  local queued = (sku.queued or 0) + units
  sku.queued = queued ~= 0 and queued or nil
  if kind == 'preordered' then return end
  local promised = (sku.promised or 0) + units
  sku.promised, sku.sum = promised ~= 0 and promised or nil, sku.sum - units
end

local function change(sku, kind, where, units)
  if units == 0 then return end
  local offset = OFFSETS[kind]
  if offset then return change_at(sku, sku.places.at[where], offset, units) end
  change_named(sku, kind .. '@' .. where, units)
  if kind == 'short' or kind == 'preordered' then queue_units(sku, kind, units) end
end

local function count_of(sku, kind, where)
  local offset, at = OFFSETS[kind], sku.places.at[where]
  if offset then return at and sku.numbers[at + offset] or 0 end
  return sku.counters and sku.counters[kind .. '@' .. where] or 0
end

local KIND_NAMES = {'on_hand@', 'committed@', 'locked@', 'damaged@'} -- in the order of WAREHOUSE

-- The name of the warehouse whose first number is `numbers[at]`.
local function name_at(sku, at) return sku.places.names[(at - WAREHOUSE.first) / WAREHOUSE.size + 1] end

-- The name of a counter of the log.
local function counter_name(sku, counter)
  if type(counter) == 'string' then return counter end
  return KIND_NAMES[counter % KINDS + 1] .. sku.places.names[math.floor(counter / KINDS) + 1]
end

return {
  known = known, changed = changed, log = log, causes = causes, open = open, new = new, get = get,
  get_or_new = get_or_new, has_room_for = has_room_for, ensure_warehouse = ensure_warehouse, free_of = free_of,
  mark_dirty = mark_dirty, begin = begin, log_delta = log_delta, change_at = change_at, change = change,
  change_named = change_named, count_of = count_of, counter_name = counter_name, name_at = name_at,
  KIND_NAMES = KIND_NAMES,
}
