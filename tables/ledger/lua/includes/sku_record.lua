-- The stored form of a SKU (tables/ledger/packed.py, _PackedSku), and the SKU in memory.
-- Format 2 is msgpack [2, width, numbers, warehouses, named, marks]:
--   numbers     the integers of SKU, then those of WAREHOUSE for each warehouse; counters have `width` bytes
--   warehouses  their names, joined by '\n'
--   named       0 or a map: `counters` without a place in `numbers`, `modes` (channel -> {state, left_at, due}),
--               `policies`
--   marks       '' or a packed map: `counted`, `floors`, `history`, `repaired`; read only by movements
-- Format 1 is a map of tables/ledger/records.py, SkuRecord. Both are read; format 2 is written.
-- struct packs a number four times as fast as cmsgpack, and SKUs are half of what an order costs.
--
-- In memory: {name, numbers, places, sum, width, counters, modes, policies, …}; `numbers` has the stored order, and
-- `places` holds the warehouses: `names`, `at` (name -> index in `numbers` of its first number), `count`.
local sku_record = {}

local HEADER = MSGPACK.ARRAY_6 .. MSGPACK.TWO
local NARROW, WIDE = 4, 8 -- bytes of a counter
local WIDE_MAX = 2 ^ 53
sku_record.NARROW_MAX = 2 ^ 31 - 1
local UNPACKED_MAX = 200 -- warehouses per call of struct: Lua's C stack holds about 8,000 values

local layouts = {[NARROW] = {}, [WIDE] = {}}

-- The format string for struct of `count` warehouses, with the numbers of the SKU before them if `with_head`.
local function layout(width, count, with_head)
  local key = with_head and count or -count
  local found = layouts[width][key]
  if not found then
    local counter = 'i' .. width
    found = '>' .. (with_head and 'I6I6' .. counter .. counter .. 'I6' or '')
      .. string.rep(string.rep(counter, WAREHOUSE.size), count)
    layouts[width][key] = found
  end
  return found
end

local no_places = {names = {}, at = {}, count = 0, joined = ''}
local places_of = {[''] = no_places}

local function known_places(joined)
  local places = places_of[joined]
  if not places then
    places = {names = {}, at = {}, count = 0, joined = joined}
    for name in string.gmatch(joined, '[^\n]+') do
      places.at[name] = WAREHOUSE.first + WAREHOUSE.size * places.count
      places.count = places.count + 1
      places.names[places.count] = name
    end
    places_of[joined] = places
  end
  return places
end

local function unpack_numbers(packed, width, count)
  if count <= UNPACKED_MAX then
    local numbers = {struct.unpack(layout(width, count, true), packed)}
    numbers[WAREHOUSE.first + WAREHOUSE.size * count] = nil -- the position after the last number
    return numbers
  end
  local numbers = {struct.unpack(layout(width, 0, true), packed)}
  local position = numbers[WAREHOUSE.first]
  for from = 0, count - 1, UNPACKED_MAX do
    local some = math.min(UNPACKED_MAX, count - from)
    local more = {struct.unpack(layout(width, some, false), packed, position)}
    local at = WAREHOUSE.first + WAREHOUSE.size * from
    for i = 1, WAREHOUSE.size * some do numbers[at + i - 1] = more[i] end
    position = more[#more]
  end
  return numbers
end

local function pack_numbers(numbers, width, count)
  if count <= UNPACKED_MAX then
    return struct.pack(layout(width, count, true), unpack(numbers, 1, WAREHOUSE.first - 1 + WAREHOUSE.size * count))
  end
  local parts = {struct.pack(layout(width, 0, true), unpack(numbers, 1, WAREHOUSE.first - 1))}
  for from = 0, count - 1, UNPACKED_MAX do
    local some = math.min(UNPACKED_MAX, count - from)
    local at = WAREHOUSE.first + WAREHOUSE.size * from
    parts[#parts + 1] = struct.pack(layout(width, some, false), unpack(numbers, at, at + WAREHOUSE.size * some - 1))
  end
  return table.concat(parts)
end

function sku_record.add_up(sku)
  local numbers, sum = sku.numbers, 0
  for at = WAREHOUSE.first, WAREHOUSE.first + WAREHOUSE.size * (sku.places.count - 1), WAREHOUSE.size do
    sum = sum + numbers[at + WAREHOUSE.on_hand] - numbers[at + WAREHOUSE.committed] - numbers[at + WAREHOUSE.locked]
  end
  sku.sum = sum
end

function sku_record.new(name)
  -- The interval of `available` is empty: the next change evaluates every channel.
  return {name = name, numbers = {0, 0, 1, 0, 0}, places = no_places, sum = 0, width = NARROW, packed_marks = ''}
end

local PLACE_OF_KIND = {
  on_hand = WAREHOUSE.on_hand, committed = WAREHOUSE.committed, locked = WAREHOUSE.locked, damaged = WAREHOUSE.damaged,
}

-- Move the counters of a new warehouse that a repair has set before it into `numbers`.
local function take_in(sku, at, name)
  for kind, offset in pairs(PLACE_OF_KIND) do
    local value = sku.counters[kind .. '@' .. name]
    if value then sku.numbers[at + offset], sku.counters[kind .. '@' .. name] = value, nil end
  end
  sku_record.add_up(sku)
end

-- Append a warehouse. -> the index of its first number
function sku_record.add_warehouse(sku, name)
  if not sku.owns_places then -- SKUs share their warehouses until one gets another
    local shared, own = sku.places, {names = {}, at = {}, count = sku.places.count}
    for i, each in ipairs(shared.names) do own.names[i], own.at[each] = each, shared.at[each] end
    sku.places, sku.owns_places = own, true
  end
  local places = sku.places
  local at = WAREHOUSE.first + WAREHOUSE.size * places.count
  places.count = places.count + 1
  places.names[places.count], places.at[name] = name, at
  for i = at, at + WAREHOUSE.size - 1 do sku.numbers[i] = 0 end
  if sku.counters then take_in(sku, at, name) end
  return at
end

-- `on_hand@SH1` -> the index of its number, or nil if it has none
function sku_record.index_of(sku, counter)
  local kind, warehouse = string.match(counter, '^([%a_]+)@(.*)$')
  local offset, at = PLACE_OF_KIND[kind], sku.places.at[warehouse]
  return offset and at and at + offset
end

function sku_record.widen(sku) sku.width = WIDE end

-- The largest number that fits.
function sku_record.limit(sku) return sku.width == NARROW and sku_record.NARROW_MAX or WIDE_MAX end

-- Set any counter by its name; the sum is not kept.
function sku_record.set_counter(sku, counter, value)
  local index = sku_record.index_of(sku, counter)
  if index then
    sku.numbers[index] = value
    if value > sku_record.NARROW_MAX or value < -sku_record.NARROW_MAX then sku.width = WIDE end
  else
    sku.counters = sku.counters or {}
    sku.counters[counter] = value ~= 0 and value or nil
  end
end

-- The counters that are not zero, by name.
function sku_record.counters_of(sku)
  local counters = {}
  for name, value in pairs(sku.counters or {}) do counters[name] = value end
  for warehouse, at in pairs(sku.places.at) do
    for kind, offset in pairs(PLACE_OF_KIND) do
      local value = sku.numbers[at + offset]
      if value ~= 0 then counters[kind .. '@' .. warehouse] = value end
    end
  end
  return counters
end

local function not_empty(map) return map and next(map) ~= nil and map or nil end

-- A SKU from a record by field names: format 1, or as an audit wants it.
local function from_names(name, record)
  local sku = sku_record.new(name)
  sku.numbers[SKU.version], sku.numbers[SKU.at] = record.version or 0, record.at or 0
  for _, warehouse in ipairs(record.warehouses or {}) do
    if not sku.places.at[warehouse] then sku_record.add_warehouse(sku, warehouse) end
  end
  for counter, value in pairs(record.counters or {}) do sku_record.set_counter(sku, counter, value) end
  for channel, side in pairs(record.modes or {}) do
    sku.modes = sku.modes or {}
    sku.modes[channel] = {side.below and 1 or 2, side.left_at or 0, side.due or 0}
  end
  sku.policies = not_empty(record.policies)
  sku.marks = {
    counted = not_empty(record.counted), floors = not_empty(record.floors), history = record.history,
    repaired = record.repaired,
  }
  sku_record.add_up(sku)
  return sku
end

function sku_record.read(name, packed)
  if string.sub(packed, 1, 2) ~= HEADER then
    local record = cmsgpack.unpack(packed)
    if record[1] then error('a SKU of format ' .. tostring(record[1])) end
    return from_names(name, record)
  end
  local _, width, numbers, joined, named, marks = cmsgpack.unpack_limit(packed, 5, 2)
  local places = known_places(joined)
  local has_named = named ~= 0
  local sku = { -- with room for the fields of a change
    name = name, numbers = unpack_numbers(numbers, width, places.count), places = places, width = width,
    packed_marks = marks, sum = 0, counters = has_named and named.counters or nil,
    modes = has_named and named.modes or nil, policies = has_named and named.policies or nil, dirty = false,
    place = nil, logged_from = nil, sum_was = nil, packed = nil, marks = nil,
  }
  sku_record.add_up(sku)
  return sku
end

-- The fields that only movements need.
function sku_record.marks_of(sku)
  if not sku.marks then sku.marks = sku.packed_marks ~= '' and cmsgpack.unpack(sku.packed_marks) or {} end
  return sku.marks
end

local packed_places = {}

function sku_record.pack(sku)
  local joined = sku.owns_places and table.concat(sku.places.names, '\n') or sku.places.joined
  local packed_joined, named, marks = packed_places[joined], MSGPACK.ZERO, sku.packed_marks
  if not packed_joined then
    packed_joined = cmsgpack.pack(joined)
    packed_places[joined] = packed_joined
  end
  if sku.counters or sku.modes or sku.policies then
    sku.counters, sku.modes, sku.policies = not_empty(sku.counters), not_empty(sku.modes), not_empty(sku.policies)
    if sku.counters or sku.modes or sku.policies then
      named = cmsgpack.pack({counters = sku.counters, modes = sku.modes, policies = sku.policies})
    end
  end
  if sku.marks then marks = next(sku.marks) ~= nil and cmsgpack.pack(sku.marks) or '' end
  local numbers = cmsgpack.pack(pack_numbers(sku.numbers, sku.width, sku.places.count))
  return HEADER .. string.char(sku.width) .. numbers .. packed_joined .. named
    .. (marks == '' and MSGPACK.STRING_0 or cmsgpack.pack(marks))
end

return sku_record
