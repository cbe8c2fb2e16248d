-- The SKUs of a batch in memory (includes/sku_record.lua), and the log of their changes. Only `change` and `change_at`
-- change counters.
local skus, sku_order, log, causes, open_sku, new_sku, get_sku, has_room_for, ensure_warehouse, free_at, free_of,
  mark_dirty, begin, log_delta, change_at, change, count_of, counter_name
do
skus, sku_order = {}, {}
-- The effects as one flat list (tables/ledger/raw_decision.py, unpack_effects): per change of a SKU its index in
-- `sku_order`, version, cause, number of deltas, and for each delta its counter and units. `size`: how much is in use.
log, causes = {size = 0}, {}

function open_sku(name, packed)
  local s = sku_record.read(name, packed)
  if s.modes then
    for _, side in pairs(s.modes) do
      if side[3] ~= 0 then s.waits = s.waits or side[3] end
    end
  end
  skus[name] = s
  return s
end

function new_sku(name)
  local s = sku_record.new(name)
  s.is_new = true
  skus[name] = s
  return s
end

function get_sku(name)
  local s = skus[name]
  if s == nil then
    local packed = redis.call('GET', KEYS[1] .. 'sku:' .. name)
    s = packed and open_sku(name, packed) or false
    skus[name] = s
  end
  return s
end

-- Of one SKU. A warehouse with a name of 128 bytes takes 1 KB of the row of `stock`, which must fit into 4 MiB.
local WAREHOUSES_MAX = 2000

function has_room_for(s, w)
  return s.places.at[w] ~= nil or s.places.count < WAREHOUSES_MAX
end

function ensure_warehouse(s, w)
  if s.places.at[w] then return end
  if s.places.count == 0 then s.starting = true end
  sku_record.add_warehouse(s, w)
  s.added = s.added or {}
  s.added[#s.added + 1] = w
end

-- The units free at a warehouse, given the index of its first number.
function free_at(s, at) return sku_record.free_at(s.r, at) end

-- -> nil if the SKU was never there
function free_of(s, w)
  local at = s.places.at[w]
  return at and free_at(s, at)
end

function mark_dirty(s)
  if s.dirty then return end
  s.dirty = true
  sku_order[#sku_order + 1] = s
  s.place = #sku_order - 1
end

-- Begin a change of a SKU; `change` adds its deltas; `finish` (modes.lua) ends it with a new version.
function begin(s)
  mark_dirty(s)
  s.logged_from, s.sum_was = log.size, s.sum
  log.size = log.size + 4
end

local KINDS = WAREHOUSE.size
local WIDTH_MAX = sku_record.NARROW_MAX

function log_delta(counter, n)
  local size = log.size
  log[size + 1] = counter
  log[size + 2] = n
  log.size = size + 2
end

-- Change a number of the warehouse whose first number is `r[at]`; `kind`: an offset of WAREHOUSE.
function change_at(s, at, kind, n)
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
  local totals = s.totals
  if totals then totals[kind + 1] = totals[kind + 1] + n end
  log_delta(at - WAREHOUSE.first + kind, n)
end

local OFFSETS = {
  on_hand = WAREHOUSE.on_hand, committed = WAREHOUSE.committed, locked = WAREHOUSE.locked, damaged = WAREHOUSE.damaged,
}

function change(s, kind, where, n)
  if n == 0 then return end
  local offset = OFFSETS[kind]
  if offset then return change_at(s, s.places.at[where], offset, n) end
  local counter = kind .. '@' .. where
  s.counters, s.named_changed = s.counters or {}, true
  local value = (s.counters[counter] or 0) + n
  s.counters[counter] = value ~= 0 and value or nil
  log_delta(counter, n)
end

function count_of(s, kind, where)
  local offset, at = OFFSETS[kind], s.places.at[where]
  if offset then return at and s.r[at + offset] or 0 end
  return s.counters and s.counters[kind .. '@' .. where] or 0
end

-- The name of a counter of the log.
local KIND_NAMES = {'on_hand@', 'committed@', 'locked@', 'damaged@'} -- in the order of WAREHOUSE

function counter_name(s, counter)
  if type(counter) == 'string' then return counter end
  return KIND_NAMES[counter % KINDS + 1] .. s.places.names[math.floor(counter / KINDS) + 1]
end

end
