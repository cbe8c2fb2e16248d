-- The stored form of a SKU (tables/ledger/packed.py, _PackedSku), and the SKU in memory.
-- Format 2 is msgpack [2, width, numbers, warehouses, named, marks]:
--   numbers     as a string (sku_numbers.lua)
--   warehouses  their names, joined by '\n'
--   named       0 or a map: `counters` without a place in `numbers`, `modes` (channel -> {state, left_at, due}),
--               `policies`, `filling`, `rerouting` (reroute.lua), `pool_times` (pools.lua), `announced` and
--               `promise_pass` (promises.lua)
--   marks       '' or a packed map: `counted`, `floors`, `history`, `repaired`; read only by movements
-- Format 1 is a map of tables/ledger/records.py, SkuRecord. Both are read; format 2 is written.
--
-- A pool is a counter without a place: `reserved#<purpose>@<warehouse>`; a purpose has no `@`.
--
-- In memory: {name, numbers, places, sum, queued, promised, width, counters, modes, policies, filling, …}. In many
-- warehouses it also has `totals`, the sums over the warehouses in the order of WAREHOUSE, and `stored`, the record in
-- Redis.

local msgpack = require('msgpack')
local places = require('places')
local sku_numbers = require('sku_numbers')
local free_at = sku_numbers.free_at

local sku_record = {}

local HEADER = MSGPACK.ARRAY_6 .. MSGPACK.TWO
local FIRST, SIZE = WAREHOUSE.first, WAREHOUSE.size

local function sum_of(totals)
  return totals[1 + WAREHOUSE.on_hand] - totals[1 + WAREHOUSE.committed] - totals[1 + WAREHOUSE.locked]
end

-- The warehouse of a pool by the name of its counter, false of any other counter; cached: SKUs share the names.
local warehouse_of = setmetatable({}, {__index = function(known, counter)
  local warehouse = string.match(counter, '^reserved#[^@]*@(.*)$') or false
  known[counter] = warehouse
  return warehouse
end})

-- The index of the first number of a pool's warehouse, given the name of any counter; nil if it is no pool's.
function sku_record.pool_place(sku, counter)
  local warehouse = warehouse_of[counter]
  return warehouse and sku.places.at[warehouse] or nil
end

-- Set what follows from the counters by name: `queued`, the units for which orders wait; `promised`, of these the short
-- ones and those that a fill will give to orders (fill.lua); `numbers.pooled`. `sum`, the available units, is without
-- the promised and those in pools.
local function add_named(sku)
  local short, queued, in_pools, pooled = 0, 0, 0, false
  for counter, units in pairs(sku.counters or {}) do
    local at = sku_record.pool_place(sku, counter)
    if at then
      pooled = pooled or {}
      pooled[at], in_pools = (pooled[at] or 0) + units, in_pools + units
    elseif string.sub(counter, 1, 6) == 'short@' then
      short, queued = short + units, queued + units
    elseif string.sub(counter, 1, 11) == 'preordered@' then
      queued = queued + units
    end
  end
  local promised = short + (sku.filling or 0)
  sku.queued, sku.promised = queued ~= 0 and queued or nil, promised ~= 0 and promised or nil
  if sku.counters then sku.numbers.pooled = pooled end
  sku.sum = sku.sum - promised - in_pools
end

function sku_record.add_up(sku)
  local totals = sku_numbers.sums_of(sku.numbers, sku.places.count)
  sku.sum = sum_of(totals)
  if sku.totals then sku.totals = totals end
  add_named(sku)
end

-- Keep `units` from all channels until a later fill.
function sku_record.set_filling(sku, units)
  local more = units - (sku.filling or 0)
  if more == 0 then return end
  sku.filling, sku.sum = units ~= 0 and units or nil, sku.sum - more
  local promised = (sku.promised or 0) + more
  sku.promised = promised ~= 0 and promised or nil
  sku.must_be_whole, sku.named_changed = true, true
end

-- Keep how far the SKU's held units were moved; nil: nothing is to be moved.
function sku_record.set_rerouting(sku, at)
  sku.rerouting, sku.must_be_whole, sku.named_changed = at, true, true
end

-- Whether a later step goes on with moving held units.
function sku_record.is_rerouting(sku) return sku.rerouting ~= nil and sku.rerouting[4] > 0 end

-- Whether a later step goes on with the SKU: then it is in the index `fills`.
function sku_record.has_left_over(sku) return sku.filling ~= nil or sku_record.is_rerouting(sku) end

function sku_record.new(name)
  -- The interval of `available` is empty: the next change evaluates every channel.
  return {
    name = name, numbers = {0, 0, 1, 0, 0}, places = places.get(''), sum = 0, width = sku_numbers.NARROW,
    packed_marks = '',
  }
end

-- The place of a counter among the numbers of its warehouse.
sku_record.OFFSETS = {
  on_hand = WAREHOUSE.on_hand, committed = WAREHOUSE.committed, locked = WAREHOUSE.locked, damaged = WAREHOUSE.damaged,
}
local OFFSETS = sku_record.OFFSETS

-- Move the counters of a new warehouse that a repair has set before it into `numbers`.
local function take_in(sku, at, name)
  for kind, offset in pairs(OFFSETS) do
    local value = sku.counters[kind .. '@' .. name]
    if value then sku.numbers[at + offset], sku.counters[kind .. '@' .. name] = value, nil end
  end
  sku_record.add_up(sku)
end

-- Append a warehouse. -> the index of its first number
function sku_record.add_warehouse(sku, name)
  local at = FIRST + SIZE * sku.places.count
  sku.places = places.with(sku.places, name)
  sku_numbers.append(sku.numbers, at)
  if sku.counters then take_in(sku, at, name) end
  return at
end

-- `on_hand@SH1` -> the index of its number, or nil if it has none
local function index_of(sku, counter)
  local kind, warehouse = string.match(counter, '^([%a_]+)@(.*)$')
  local offset, at = OFFSETS[kind], sku.places.at[warehouse]
  return offset and at and at + offset
end

function sku_record.widen(sku) sku.width = sku_numbers.WIDE end

-- Set any counter by its name; `sum` is not kept.
function sku_record.set_counter(sku, counter, value)
  local index = index_of(sku, counter)
  if index then
    local totals, kind = sku.totals, (index - FIRST) % SIZE
    if totals then totals[kind + 1] = totals[kind + 1] + value - sku.numbers[index] end
    sku.numbers[index] = value
    if not sku_numbers.fits(value) then sku_record.widen(sku) end
  else
    sku.counters = sku.counters or {}
    sku.counters[counter] = value ~= 0 and value or nil
  end
end

-- The counters that are not zero, by name.
function sku_record.counters_of(sku)
  local counters = {}
  sku_numbers.open_all(sku.numbers)
  for name, value in pairs(sku.counters or {}) do counters[name] = value end
  for warehouse, at in pairs(sku.places.at) do
    for kind, offset in pairs(OFFSETS) do
      local value = sku.numbers[at + offset]
      if value ~= 0 then counters[kind .. '@' .. warehouse] = value end
    end
  end
  return counters
end

-- -> the value of a counter, and the index of its number, or nil if it has none
function sku_record.counter(sku, name)
  local index = index_of(sku, name)
  return index and sku.numbers[index] or sku.counters and sku.counters[name] or 0, index
end

-- The sums of the counters of all warehouses, in the order of WAREHOUSE.
function sku_record.sums(sku) return sku.totals or sku_numbers.sums_of(sku.numbers, sku.places.count) end

local function not_empty(map) return map and next(map) ~= nil and map or nil end

-- A SKU from a record by field names: format 1, or as an audit wants it.
local function from_names(name, record)
  local sku = sku_record.new(name)
  sku.numbers[SKU.version], sku.numbers[SKU.at] = record.version or 0, record.at or 0
  local names, seen = {}, {}
  for _, warehouse in ipairs(record.warehouses or {}) do
    if not seen[warehouse] then seen[warehouse], names[#names + 1] = true, warehouse end
  end
  sku.places = places.get(table.concat(names, '\n'))
  for i = FIRST, FIRST + SIZE * sku.places.count - 1 do sku.numbers[i] = 0 end
  for counter, value in pairs(record.counters or {}) do sku_record.set_counter(sku, counter, value) end
  for channel, side in pairs(record.modes or {}) do
    sku.modes = sku.modes or {}
    sku.modes[channel] = {side.below and 1 or 2, side.left_at or 0, side.due or 0}
  end
  sku.policies, sku.pool_times = not_empty(record.policies), not_empty(record.pool_times)
  sku.marks = {
    counted = not_empty(record.counted), floors = not_empty(record.floors), history = record.history,
    repaired = record.repaired,
  }
  sku.rerouting = not_empty(record.rerouting)
  sku.filling = record.filling and record.filling ~= 0 and record.filling or nil
  sku.announced, sku.promise_pass = not_empty(record.announced), record.promise_pass
  sku_record.add_up(sku)
  return sku
end

-- -> the position of the numbers in a record, and their length
local function find_numbers(packed)
  local kind, a, b, c, d = string.byte(packed, 4, 8)
  if kind < 0xd9 then return 5, kind - 0xa0 end
  if kind == 0xd9 then return 6, a end
  if kind == 0xda then return 7, 256 * a + b end
  return 9, 65536 * b + 256 * c + d
end

function sku_record.read(name, packed)
  if string.sub(packed, 1, 2) ~= HEADER then
    local record = cmsgpack.unpack(packed)
    if record[1] then error('a SKU of format ' .. tostring(record[1])) end
    return from_names(name, record)
  end
  local width, from, length = string.byte(packed, 3), find_numbers(packed)
  local _, joined, named, marks = cmsgpack.unpack_limit(packed, 3, from + length - 1)
  local its_places, has_named = places.get(joined), named ~= 0
  local count = its_places.count
  local numbers, totals = sku_numbers.read(packed, from, width, count)
  local sum = totals and sum_of(totals) or 0
  if not totals then
    for at = FIRST, FIRST + SIZE * (count - 1), SIZE do sum = sum + free_at(numbers, at) end
  end
  local sku = { -- with room for the fields of a change
    name = name, numbers = numbers, places = its_places, width = width, packed_marks = marks, totals = totals,
    stored = totals and packed, sum = sum, counters = has_named and named.counters or nil,
    modes = has_named and named.modes or nil, policies = has_named and named.policies or nil,
    pool_times = has_named and named.pool_times or nil, rerouting = has_named and named.rerouting or nil,
    dirty = false, place = nil, logged_from = nil, sum_was = nil, packed = nil, marks = nil,
  }
  if sku.counters then
    sku.filling, sku.announced, sku.promise_pass = named.filling, named.announced, named.promise_pass
    add_named(sku)
  end
  return sku
end

-- The fields that only movements need.
function sku_record.marks_of(sku)
  if not sku.marks then sku.marks = sku.packed_marks ~= '' and cmsgpack.unpack(sku.packed_marks) or {} end
  return sku.marks
end

function sku_record.pack(sku)
  local named, marks = MSGPACK.ZERO, sku.packed_marks
  if sku.counters or sku.modes or sku.policies or sku.pool_times or sku.rerouting then
    sku.counters, sku.modes, sku.policies = not_empty(sku.counters), not_empty(sku.modes), not_empty(sku.policies)
    if sku.counters or sku.modes or sku.policies or sku.pool_times or sku.rerouting then
      named = cmsgpack.pack({
        counters = sku.counters, modes = sku.modes, policies = sku.policies, filling = sku.filling,
        rerouting = sku.rerouting, pool_times = sku.pool_times, announced = sku.announced,
        promise_pass = sku.promise_pass,
      })
    end
  end
  if sku.marks then marks = next(sku.marks) ~= nil and cmsgpack.pack(sku.marks) or '' end
  marks = marks == '' and MSGPACK.STRING_0 or cmsgpack.pack(marks)
  local numbers = sku_numbers.pack(sku)
  return HEADER .. string.char(sku.width) .. msgpack.string_headers[#numbers] .. numbers .. sku.places.packed .. named
    .. marks
end

-- Whether the SKU has a pool that has not ended: then it is in the index `pools`.
function sku_record.has_pools(sku)
  for name in pairs(sku.counters or {}) do
    if string.sub(name, 1, 9) == 'reserved#' then return true end
  end
  for _, times in pairs(sku.pool_times or {}) do
    if times[1] >= 0 then return true end
  end
  return false
end

-- The earlier of two times, each of which may be nil or false.
function sku_record.earlier(a, b) return a and b and math.min(a, b) or a or b end

-- When the first of its pools opens or ends, or false.
function sku_record.pool_due(sku)
  local first = false
  for _, times in pairs(sku.pool_times or {}) do
    local due = times[1] > 0 and times[1] or times[1] == 0 and times[2] > 0 and times[2]
    first = sku_record.earlier(first, due)
  end
  return first
end

-- What to write over the record of a SKU in many warehouses if few numbers have changed and nothing else: a list
-- {offset, bytes, …}; else nil
function sku_record.changes(sku)
  if sku.named_changed or sku.sides or sku.new_marks or sku.carried then return nil end
  return sku_numbers.changes(sku)
end

return sku_record
