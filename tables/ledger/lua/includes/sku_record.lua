-- The stored form of a SKU (tables/ledger/packed.py, _PackedSku), and the SKU in memory.
-- Format 2 is msgpack [2, width, numbers, warehouses, named, marks]:
--   numbers     the integers of SKU, then those of WAREHOUSE for each warehouse; counters have `width` bytes. In more
--               than WAREHOUSE.many of them: the integers of SKU; four sums over the warehouses, of 8 bytes; the free
--               units of each warehouse; then for each the other three
--   warehouses  their names, joined by '\n'
--   named       0 or a map: `counters` without a place in `numbers`, `modes` (channel -> {state, left_at, due}),
--               `policies`
--   marks       '' or a packed map: `counted`, `floors`, `history`, `repaired`; read only by movements
-- Format 1 is a map of tables/ledger/records.py, SkuRecord. Both are read; format 2 is written.
-- struct packs a number four times as fast as cmsgpack, and SKUs are half of what an order costs.
--
-- In memory: {name, numbers, places, sum, width, counters, modes, policies, …}; `numbers` has the order for few
-- warehouses, and `places` holds the warehouses: `names`, `at` (name -> index in `numbers` of its first number),
-- `count`. In many warehouses it also has `totals`, the sums in the order of WAREHOUSE; `numbers` is filled as it is
-- read, and only changed bytes are written.
local sku_record = {}

local HEADER = MSGPACK.ARRAY_6 .. MSGPACK.TWO
local NARROW, WIDE = 4, 8 -- bytes of a counter
local WIDE_MAX = 2 ^ 53
sku_record.NARROW_MAX = 2 ^ 31 - 1
local FIRST, SIZE, MANY = WAREHOUSE.first, WAREHOUSE.size, WAREHOUSE.many
local UNPACKED_MAX = 200 -- warehouses per call of struct: Lua's C stack holds about 8,000 values
local SPLICED_MAX = 4 -- warehouses that are written by themselves; with more, one write of the record costs less

local function integers_format(width, count) return '>' .. string.rep('i' .. width, count) end

-- Formats for struct: of a SKU in few warehouses by their number, and of the parts of one in many.
local layouts, head_formats, head_bytes, number_formats, others_formats = {}, {}, {}, {}, {}
for _, width in ipairs({NARROW, WIDE}) do
  local head = '>I6I6i' .. width .. 'i' .. width .. 'I6'
  layouts[width] = setmetatable({}, {__index = function(made, count)
    made[count] = head .. string.rep('i' .. width, SIZE * count)
    return made[count]
  end})
  head_formats[width] = head .. 'i8i8i8i8'
  head_bytes[width] = struct.size(head_formats[width])
  number_formats[width], others_formats[width] = '>i' .. width, '>' .. string.rep('i' .. width, SIZE - 1)
end

local no_places = {names = {}, at = {}, count = 0, joined = '', packed = MSGPACK.STRING_0, next = {}}
local places_of = {[''] = no_places}

local function known_places(joined)
  local places = places_of[joined]
  if not places then
    places = {names = {}, at = {}, count = 0, joined = joined, packed = cmsgpack.pack(joined), next = {}}
    for name in string.gmatch(joined, '[^\n]+') do
      places.at[name] = FIRST + SIZE * places.count
      places.count = places.count + 1
      places.names[places.count] = name
    end
    places_of[joined] = places
  end
  return places
end

-- `places` and one more. SKUs share the lists of their warehouses.
local function places_with(places, name)
  local longer = places.next[name]
  if not longer then
    longer = known_places(places.joined == '' and name or places.joined .. '\n' .. name)
    places.next[name] = longer
  end
  return longer
end

-- The numbers of a SKU in many warehouses. `packed` is its record; the free units of `count` warehouses begin at
-- `free`, the other numbers at `others`. Those of a warehouse are unpacked when one of them is first read; `opened`
-- lists the index of the first of them.
local lazy = {__index = function(numbers, i)
  local place = math.floor((i - FIRST) / SIZE)
  if place >= numbers.count then return nil end
  local at, opened, width, packed = FIRST + SIZE * place, numbers.opened, numbers.width, numbers.packed
  local free = struct.unpack(number_formats[width], packed, numbers.free + width * place)
  local committed, locked, damaged =
    struct.unpack(others_formats[width], packed, numbers.others + (SIZE - 1) * width * place)
  numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3] = free + committed + locked, committed, locked, damaged
  opened[#opened + 1] = at
  return rawget(numbers, i)
end}

-- Unpack the numbers of all warehouses.
function sku_record.open_all(numbers)
  if not numbers.packed then return end
  for place = 0, numbers.count - 1, UNPACKED_MAX do
    local some, width = math.min(UNPACKED_MAX, numbers.count - place), numbers.width
    local each = (SIZE - 1) * width -- bytes of the other numbers of a warehouse
    local free = {struct.unpack(integers_format(width, some), numbers.packed, numbers.free + width * place)}
    local others = {
      struct.unpack(integers_format(width, (SIZE - 1) * some), numbers.packed, numbers.others + each * place)
    }
    for i = 1, some do
      local at, j = FIRST + SIZE * (place + i - 1), 3 * i - 2
      if rawget(numbers, at) == nil then
        numbers[at] = free[i] + others[j] + others[j + 1]
        numbers[at + 1], numbers[at + 2], numbers[at + 3] = others[j], others[j + 1], others[j + 2]
      end
    end
  end
  numbers.packed = nil
  setmetatable(numbers, nil)
end
local open_all = sku_record.open_all

local function str_header(n)
  if n < 32 then return string.char(0xa0 + n) end
  if n < 256 then return string.char(0xd9, n) end
  if n < 65536 then return string.char(0xda, math.floor(n / 256), n % 256) end
  return string.char(0xdb, 0, math.floor(n / 65536), math.floor(n / 256) % 256, n % 256)
end

-- -> the position of the numbers in a record, and their length
local function find_numbers(packed)
  local kind, a, b, c, d = string.byte(packed, 4, 8)
  if kind < 0xd9 then return 5, kind - 0xa0 end
  if kind == 0xd9 then return 6, a end
  if kind == 0xda then return 7, 256 * a + b end
  return 9, 65536 * b + 256 * c + d
end

-- Sums over the warehouses, in the order of WAREHOUSE.
local function totals_of(sku)
  local numbers, totals = sku.numbers, {0, 0, 0, 0}
  open_all(numbers)
  for at = FIRST, FIRST + SIZE * (sku.places.count - 1), SIZE do
    for kind = 0, SIZE - 1 do totals[kind + 1] = totals[kind + 1] + numbers[at + kind] end
  end
  return totals
end

local function sum_of(totals)
  return totals[1 + WAREHOUSE.on_hand] - totals[1 + WAREHOUSE.committed] - totals[1 + WAREHOUSE.locked]
end

function sku_record.add_up(sku)
  local totals = totals_of(sku)
  sku.sum = sum_of(totals)
  if sku.totals then sku.totals = totals end
end

local function free_at(numbers, at)
  return numbers[at + WAREHOUSE.on_hand] - numbers[at + WAREHOUSE.committed] - numbers[at + WAREHOUSE.locked]
end

-- Of a SKU in many warehouses: the first with the most free units. -> the index of its first number
function sku_record.best(sku)
  local numbers, free, count = sku.numbers, {}, sku.places.count
  if numbers.packed then
    free = {struct.unpack(integers_format(numbers.width, numbers.count), numbers.packed, numbers.free)}
    for _, at in ipairs(numbers.opened) do free[(at - FIRST) / SIZE + 1] = free_at(numbers, at) end
    free[count + 1] = nil -- the position after the last number
  else
    for place = 1, count do free[place] = free_at(numbers, FIRST + SIZE * (place - 1)) end
  end
  local most = math.max(unpack(free, 1, count))
  for place = 1, count do
    if free[place] == most then return FIRST + SIZE * (place - 1) end
  end
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
  local numbers, at = sku.numbers, FIRST + SIZE * sku.places.count
  sku.places = places_with(sku.places, name)
  for i = at, at + SIZE - 1 do numbers[i] = 0 end
  if numbers.packed then numbers.opened[#numbers.opened + 1] = at end
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

-- Set any counter by its name; `sum` is not kept.
function sku_record.set_counter(sku, counter, value)
  local index = sku_record.index_of(sku, counter)
  if index then
    local totals, kind = sku.totals, (index - FIRST) % SIZE
    if totals then totals[kind + 1] = totals[kind + 1] + value - sku.numbers[index] end
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
  open_all(sku.numbers)
  for name, value in pairs(sku.counters or {}) do counters[name] = value end
  for warehouse, at in pairs(sku.places.at) do
    for kind, offset in pairs(PLACE_OF_KIND) do
      local value = sku.numbers[at + offset]
      if value ~= 0 then counters[kind .. '@' .. warehouse] = value end
    end
  end
  return counters
end

-- -> the value of a counter, and the index of its number, or nil if it has none
function sku_record.counter(sku, name)
  local index = sku_record.index_of(sku, name)
  return index and sku.numbers[index] or sku.counters and sku.counters[name] or 0, index
end

-- The sums of the counters of all warehouses, in the order of WAREHOUSE.
function sku_record.sums(sku) return sku.totals or totals_of(sku) end

local function not_empty(map) return map and next(map) ~= nil and map or nil end

-- A SKU from a record by field names: format 1, or as an audit wants it.
local function from_names(name, record)
  local sku = sku_record.new(name)
  sku.numbers[SKU.version], sku.numbers[SKU.at] = record.version or 0, record.at or 0
  local names, seen = {}, {}
  for _, warehouse in ipairs(record.warehouses or {}) do
    if not seen[warehouse] then seen[warehouse], names[#names + 1] = true, warehouse end
  end
  sku.places = known_places(table.concat(names, '\n'))
  for i = FIRST, FIRST + SIZE * sku.places.count - 1 do sku.numbers[i] = 0 end
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

local function read_many(name, packed, from, length)
  local width = string.byte(packed, 3)
  local _, joined, named, marks = cmsgpack.unpack_limit(packed, 3, from + length - 1)
  local places, free = known_places(joined), from + head_bytes[width]
  local numbers, totals = {packed = packed, width = width, count = places.count, opened = {}, free = free}, {}
  numbers.others = free + width * places.count
  numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], totals[1], totals[2], totals[3], totals[4] =
    struct.unpack(head_formats[width], packed, from)
  local has_named = named ~= 0
  return {
    name = name, numbers = setmetatable(numbers, lazy), places = places, width = width, packed_marks = marks,
    totals = totals, sum = sum_of(totals), counters = has_named and named.counters or nil,
    modes = has_named and named.modes or nil, policies = has_named and named.policies or nil, stored = packed,
  }
end

function sku_record.read(name, packed)
  if string.sub(packed, 1, 2) ~= HEADER then
    local record = cmsgpack.unpack(packed)
    if record[1] then error('a SKU of format ' .. tostring(record[1])) end
    return from_names(name, record)
  end
  local from, length = find_numbers(packed)
  local bytes = string.byte(packed, 3)
  if length >= head_bytes[bytes] + SIZE * bytes * (MANY + 1) then return read_many(name, packed, from, length) end
  local _, width, packed_numbers, joined, named, marks = cmsgpack.unpack_limit(packed, 5, 2)
  local places = known_places(joined)
  local has_named = named ~= 0
  local numbers = {struct.unpack(layouts[width][places.count], packed_numbers)}
  numbers[FIRST + SIZE * places.count] = nil -- the position after the last number
  local sku = { -- with room for the fields of a change
    name = name, numbers = numbers, places = places, width = width, packed_marks = marks,
    sum = 0, counters = has_named and named.counters or nil, modes = has_named and named.modes or nil,
    policies = has_named and named.policies or nil, dirty = false, place = nil, logged_from = nil, sum_was = nil,
    packed = nil, marks = nil,
  }
  local sum = 0
  for at = FIRST, FIRST + SIZE * (places.count - 1), SIZE do sum = sum + free_at(numbers, at) end
  sku.sum = sum
  return sku
end

-- The fields that only movements need.
function sku_record.marks_of(sku)
  if not sku.marks then sku.marks = sku.packed_marks ~= '' and cmsgpack.unpack(sku.packed_marks) or {} end
  return sku.marks
end

local function packed_head(sku)
  local first, second, third, fourth, fifth = unpack(sku.numbers, 1, FIRST - 1)
  return struct.pack(head_formats[sku.width], first, second, third, fourth, fifth, unpack(sku.totals))
end

-- -> the packed free units of a warehouse, and its other numbers
local function packed_at(sku, at)
  local numbers, width = sku.numbers, sku.width
  return struct.pack(number_formats[width], free_at(numbers, at)),
    struct.pack(others_formats[width], numbers[at + 1], numbers[at + 2], numbers[at + 3])
end

-- Append to `parts` the bytes of `numbers.packed` from `from` on, `size` for each stored warehouse, with `changed[i]`
-- for those of `opened[i]`.
local function splice(parts, numbers, from, size, opened, changed)
  local packed, position, stop = numbers.packed, from, from + size * numbers.count
  for i, at in ipairs(opened) do
    local place_from = from + size * (at - FIRST) / SIZE
    if place_from > position then parts[#parts + 1] = string.sub(packed, position, math.min(place_from, stop) - 1) end
    parts[#parts + 1] = changed[i]
    position = place_from + size
  end
  if position < stop then parts[#parts + 1] = string.sub(packed, position, stop - 1) end
end

-- Widen where the free units of a warehouse do not fit, though each of its numbers does.
local function fit_free(sku)
  local numbers = sku.numbers
  local function fit(at)
    if math.abs(free_at(numbers, at)) > sku_record.NARROW_MAX then sku.width = WIDE end
  end
  if numbers.packed then
    for _, at in ipairs(numbers.opened) do fit(at) end
  else
    for place = 1, sku.places.count do fit(FIRST + SIZE * (place - 1)) end
  end
end

-- Append to `parts` the numbers of all warehouses of a SKU in many.
local function add_numbers(parts, sku)
  local numbers, width, opened, free, others = sku.numbers, sku.width, sku.numbers.opened, {}, {}
  if numbers.packed and numbers.width == width then
    table.sort(opened)
    for i, at in ipairs(opened) do free[i], others[i] = packed_at(sku, at) end
    splice(parts, numbers, numbers.free, width, opened, free)
    splice(parts, numbers, numbers.others, (SIZE - 1) * width, opened, others)
    return
  end
  open_all(numbers)
  for place = 1, sku.places.count do free[place], others[place] = packed_at(sku, FIRST + SIZE * (place - 1)) end
  parts[#parts + 1] = table.concat(free)
  parts[#parts + 1] = table.concat(others)
end

function sku_record.pack(sku)
  local named, marks, count = MSGPACK.ZERO, sku.packed_marks, sku.places.count
  if sku.counters or sku.modes or sku.policies then
    sku.counters, sku.modes, sku.policies = not_empty(sku.counters), not_empty(sku.modes), not_empty(sku.policies)
    if sku.counters or sku.modes or sku.policies then
      named = cmsgpack.pack({counters = sku.counters, modes = sku.modes, policies = sku.policies})
    end
  end
  if sku.marks then marks = next(sku.marks) ~= nil and cmsgpack.pack(sku.marks) or '' end
  marks = marks == '' and MSGPACK.STRING_0 or cmsgpack.pack(marks)
  if count > MANY then
    sku.totals = sku.totals or totals_of(sku)
    fit_free(sku)
    local parts = {
      HEADER, string.char(sku.width), str_header(head_bytes[sku.width] + SIZE * sku.width * count), packed_head(sku),
    }
    add_numbers(parts, sku)
    parts[#parts + 1] = sku.places.packed
    parts[#parts + 1] = named .. marks
    return table.concat(parts)
  end
  local packed = struct.pack(layouts[sku.width][count], unpack(sku.numbers, 1, FIRST - 1 + SIZE * count))
  return HEADER .. string.char(sku.width) .. cmsgpack.pack(packed) .. sku.places.packed .. named .. marks
end

-- What to write over the record of a SKU in many warehouses of which few numbers have changed, and nothing else: a list
-- {offset, bytes, …}; else nil
function sku_record.changes(sku)
  local numbers = sku.numbers
  if not numbers.packed then return nil end
  fit_free(sku)
  local width = sku.width
  if numbers.width ~= width or #numbers.opened > SPLICED_MAX or sku.places.count ~= numbers.count
    or sku.named_changed or sku.sides or sku.new_marks or sku.carried then
    return nil
  end
  local list = {numbers.free - head_bytes[width] - 1, packed_head(sku)}
  local function add(position, bytes)
    if string.sub(numbers.packed, position, position + #bytes - 1) == bytes then return end
    list[#list + 1], list[#list + 2] = position - 1, bytes
  end
  for _, at in ipairs(numbers.opened) do
    local place, free, others = (at - FIRST) / SIZE, packed_at(sku, at)
    add(numbers.free + width * place, free)
    add(numbers.others + (SIZE - 1) * width * place, others)
  end
  return list
end

return sku_record
