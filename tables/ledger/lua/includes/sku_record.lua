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
-- In memory: {sku, r, places, sum, width, counters, modes, policies, …}; `r` holds the numbers in their stored order,
-- and `places` the warehouses: `names`, `at` (name -> index in `r` of its first number), `count`.
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

local function unpack_numbers(numbers, width, count)
  if count <= UNPACKED_MAX then
    local r = {struct.unpack(layout(width, count, true), numbers)}
    r[WAREHOUSE.first + WAREHOUSE.size * count] = nil -- the position after the last number
    return r
  end
  local r = {struct.unpack(layout(width, 0, true), numbers)}
  local position = r[WAREHOUSE.first]
  for from = 0, count - 1, UNPACKED_MAX do
    local some = math.min(UNPACKED_MAX, count - from)
    local more = {struct.unpack(layout(width, some, false), numbers, position)}
    local at = WAREHOUSE.first + WAREHOUSE.size * from
    for i = 1, WAREHOUSE.size * some do r[at + i - 1] = more[i] end
    position = more[#more]
  end
  return r
end

local function pack_numbers(r, width, count)
  if count <= UNPACKED_MAX then
    return struct.pack(layout(width, count, true), unpack(r, 1, WAREHOUSE.first - 1 + WAREHOUSE.size * count))
  end
  local parts = {struct.pack(layout(width, 0, true), unpack(r, 1, WAREHOUSE.first - 1))}
  for from = 0, count - 1, UNPACKED_MAX do
    local some = math.min(UNPACKED_MAX, count - from)
    local at = WAREHOUSE.first + WAREHOUSE.size * from
    parts[#parts + 1] = struct.pack(layout(width, some, false), unpack(r, at, at + WAREHOUSE.size * some - 1))
  end
  return table.concat(parts)
end

function sku_record.add_up(s)
  local r, sum = s.r, 0
  for at = WAREHOUSE.first, WAREHOUSE.first + WAREHOUSE.size * (s.places.count - 1), WAREHOUSE.size do
    sum = sum + r[at + WAREHOUSE.on_hand] - r[at + WAREHOUSE.committed] - r[at + WAREHOUSE.locked]
  end
  s.sum = sum
end

function sku_record.new(name)
  -- The interval of `available` is empty: the next change evaluates every channel.
  return {sku = name, r = {0, 0, 1, 0, 0}, places = no_places, sum = 0, width = NARROW, packed_marks = ''}
end

local PLACE_OF_KIND = {
  on_hand = WAREHOUSE.on_hand, committed = WAREHOUSE.committed, locked = WAREHOUSE.locked, damaged = WAREHOUSE.damaged,
}

-- Move the counters of a new warehouse that a repair has set before it into `r`.
local function take_in(s, at, name)
  for kind, offset in pairs(PLACE_OF_KIND) do
    local value = s.counters[kind .. '@' .. name]
    if value then s.r[at + offset], s.counters[kind .. '@' .. name] = value, nil end
  end
  sku_record.add_up(s)
end

-- Append a warehouse. -> the index of its first number
function sku_record.add_warehouse(s, name)
  if not s.owns_places then -- SKUs share their warehouses until one gets another
    local shared, own = s.places, {names = {}, at = {}, count = s.places.count}
    for i, each in ipairs(shared.names) do own.names[i], own.at[each] = each, shared.at[each] end
    s.places, s.owns_places = own, true
  end
  local places = s.places
  local at = WAREHOUSE.first + WAREHOUSE.size * places.count
  places.count = places.count + 1
  places.names[places.count], places.at[name] = name, at
  for i = at, at + WAREHOUSE.size - 1 do s.r[i] = 0 end
  if s.counters then take_in(s, at, name) end
  return at
end

-- `on_hand@SH1` -> the index of its number, or nil if it has none
function sku_record.index_of(s, counter)
  local kind, warehouse = string.match(counter, '^([%a_]+)@(.*)$')
  local offset, at = PLACE_OF_KIND[kind], s.places.at[warehouse]
  return offset and at and at + offset
end

function sku_record.widen(s) s.width = WIDE end

-- The largest number that fits.
function sku_record.limit(s) return s.width == NARROW and sku_record.NARROW_MAX or WIDE_MAX end

-- Set any counter by its name; the sum is not kept.
function sku_record.set_counter(s, counter, value)
  local index = sku_record.index_of(s, counter)
  if index then
    s.r[index] = value
    if value > sku_record.NARROW_MAX or value < -sku_record.NARROW_MAX then s.width = WIDE end
  else
    s.counters = s.counters or {}
    s.counters[counter] = value ~= 0 and value or nil
  end
end

-- The counters that are not zero, by name.
function sku_record.counters_of(s)
  local counters = {}
  for name, value in pairs(s.counters or {}) do counters[name] = value end
  for w, at in pairs(s.places.at) do
    for kind, offset in pairs(PLACE_OF_KIND) do
      local value = s.r[at + offset]
      if value ~= 0 then counters[kind .. '@' .. w] = value end
    end
  end
  return counters
end

local function not_empty(map) return map and next(map) ~= nil and map or nil end

-- A SKU from a record by field names: format 1, or as an audit wants it.
local function from_names(name, record)
  local s = sku_record.new(name)
  s.r[SKU.version], s.r[SKU.at] = record.version or 0, record.at or 0
  for _, warehouse in ipairs(record.warehouses or {}) do
    if not s.places.at[warehouse] then sku_record.add_warehouse(s, warehouse) end
  end
  for counter, value in pairs(record.counters or {}) do sku_record.set_counter(s, counter, value) end
  for channel, side in pairs(record.modes or {}) do
    s.modes = s.modes or {}
    s.modes[channel] = {side.below and 1 or 2, side.left_at or 0, side.due or 0}
  end
  s.policies = not_empty(record.policies)
  s.marks = {
    counted = not_empty(record.counted), floors = not_empty(record.floors), history = record.history,
    repaired = record.repaired,
  }
  sku_record.add_up(s)
  return s
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
  local s = { -- with room for the fields of a change
    sku = name, r = unpack_numbers(numbers, width, places.count), places = places, width = width, packed_marks = marks,
    sum = 0, counters = has_named and named.counters or nil, modes = has_named and named.modes or nil,
    policies = has_named and named.policies or nil, dirty = false, place = nil, logged_from = nil, sum_was = nil,
    packed = nil, marks = nil,
  }
  sku_record.add_up(s)
  return s
end

-- The fields that only movements need.
function sku_record.marks_of(s)
  if not s.marks then s.marks = s.packed_marks ~= '' and cmsgpack.unpack(s.packed_marks) or {} end
  return s.marks
end

local packed_places = {}

function sku_record.pack(s)
  local joined = s.owns_places and table.concat(s.places.names, '\n') or s.places.joined
  local packed_joined, named, marks = packed_places[joined], MSGPACK.ZERO, s.packed_marks
  if not packed_joined then
    packed_joined = cmsgpack.pack(joined)
    packed_places[joined] = packed_joined
  end
  if s.counters or s.modes or s.policies then
    s.counters, s.modes, s.policies = not_empty(s.counters), not_empty(s.modes), not_empty(s.policies)
    if s.counters or s.modes or s.policies then
      named = cmsgpack.pack({counters = s.counters, modes = s.modes, policies = s.policies})
    end
  end
  if s.marks then marks = next(s.marks) ~= nil and cmsgpack.pack(s.marks) or '' end
  local numbers = cmsgpack.pack(pack_numbers(s.r, s.width, s.places.count))
  return HEADER .. string.char(s.width) .. numbers .. packed_joined .. named
    .. (marks == '' and MSGPACK.STRING_0 or cmsgpack.pack(marks))
end

return sku_record
