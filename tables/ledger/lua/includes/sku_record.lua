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
-- In memory: {sku, r, places, sum, width, counters, modes, policies, …}; `r` holds the numbers, in the order for few
-- warehouses, and `places` the warehouses: `names`, `at` (name -> index in `r` of its first number), `count`. In many
-- warehouses it also has `totals`, the sums in the order of WAREHOUSE; `r` is filled as it is read, and only changed
-- bytes are written.
local sku_record = {}
do

local HEADER = '\150\2'
local NARROW, WIDE = 4, 8 -- bytes of a counter
sku_record.NARROW_MAX, sku_record.WIDE_MAX = 2 ^ 31 - 1, 2 ^ 53
local FIRST, SIZE, MANY = WAREHOUSE.first, WAREHOUSE.size, WAREHOUSE.many
local UNPACKED_MAX = 200 -- warehouses per call of struct: Lua's C stack holds about 8,000 values
local SPLICED_MAX = 4 -- warehouses that are written by themselves; with more, one write of the record costs less

local function counters(width, count) return string.rep('i' .. width, SIZE * count) end
local function numbers(width, count) return '>' .. string.rep('i' .. width, count) end

local layouts = {[NARROW] = {}, [WIDE] = {}}
local head_formats, head_bytes, number_formats, others_formats = {}, {}, {}, {}
for _, width in ipairs({NARROW, WIDE}) do
  local head = '>I6I6i' .. width .. 'i' .. width .. 'I6'
  for count = 0, MANY do layouts[width][count] = head .. counters(width, count) end
  head_formats[width] = head .. 'i8i8i8i8'
  head_bytes[width] = struct.size(head_formats[width])
  number_formats[width], others_formats[width] = '>i' .. width, '>' .. string.rep('i' .. width, SIZE - 1)
end

local no_places = {names = {}, at = {}, count = 0, joined = '', packed = '\160', next = {}}
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

-- The numbers of a SKU in many warehouses. `r.packed` is its record; the free units of `r.count` warehouses begin at
-- `r.free`, the other numbers at `r.others`. Those of a warehouse are unpacked when one of them is first read;
-- `r.opened` lists the index of the first of them.
local lazy = {__index = function(r, i)
  local place = math.floor((i - FIRST) / SIZE)
  if place >= r.count then return nil end
  local at, opened, width, packed = FIRST + SIZE * place, r.opened, r.width, r.packed
  local free = struct.unpack(number_formats[width], packed, r.free + width * place)
  local committed, locked, damaged =
    struct.unpack(others_formats[width], packed, r.others + (SIZE - 1) * width * place)
  r[at], r[at + 1], r[at + 2], r[at + 3] = free + committed + locked, committed, locked, damaged
  opened[#opened + 1] = at
  return rawget(r, i)
end}

-- Unpack the numbers of all warehouses.
function sku_record.open_all(r)
  if not r.packed then return end
  for place = 0, r.count - 1, UNPACKED_MAX do
    local some, width = math.min(UNPACKED_MAX, r.count - place), r.width
    local free = {struct.unpack(numbers(width, some), r.packed, r.free + width * place)}
    local others =
      {struct.unpack(numbers(width, (SIZE - 1) * some), r.packed, r.others + (SIZE - 1) * width * place)}
    for i = 1, some do
      local at, j = FIRST + SIZE * (place + i - 1), 3 * i - 2
      if rawget(r, at) == nil then
        r[at], r[at + 1], r[at + 2], r[at + 3] = free[i] + others[j] + others[j + 1], others[j], others[j + 1],
          others[j + 2]
      end
    end
  end
  r.packed = nil
  setmetatable(r, nil)
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
local function totals_of(s)
  local r, totals = s.r, {0, 0, 0, 0}
  open_all(r)
  for at = FIRST, FIRST + SIZE * (s.places.count - 1), SIZE do
    for kind = 0, SIZE - 1 do totals[kind + 1] = totals[kind + 1] + r[at + kind] end
  end
  return totals
end

local function sum_of(totals)
  return totals[1 + WAREHOUSE.on_hand] - totals[1 + WAREHOUSE.committed] - totals[1 + WAREHOUSE.locked]
end

function sku_record.add_up(s)
  local totals = totals_of(s)
  s.sum = sum_of(totals)
  if s.totals then s.totals = totals end
end

function sku_record.free_at(r, at)
  return r[at + WAREHOUSE.on_hand] - r[at + WAREHOUSE.committed] - r[at + WAREHOUSE.locked]
end
local free_at = sku_record.free_at

-- Of a SKU in many warehouses: the first with the most free units. -> the index of its first number
function sku_record.best(s)
  local r, free, count = s.r, {}, s.places.count
  if r.packed then
    free = {struct.unpack(numbers(r.width, r.count), r.packed, r.free)}
    for _, at in ipairs(r.opened) do free[(at - FIRST) / SIZE + 1] = free_at(r, at) end
    free[count + 1] = nil -- the position after the last number
  else
    for place = 1, count do free[place] = free_at(r, FIRST + SIZE * (place - 1)) end
  end
  local most = math.max(unpack(free, 1, count))
  for place = 1, count do
    if free[place] == most then return FIRST + SIZE * (place - 1) end
  end
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
  local r, at = s.r, FIRST + SIZE * s.places.count
  s.places = places_with(s.places, name)
  for i = at, at + SIZE - 1 do r[i] = 0 end
  if r.packed then r.opened[#r.opened + 1] = at end
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
function sku_record.limit(s) return s.width == NARROW and sku_record.NARROW_MAX or sku_record.WIDE_MAX end

-- Set any counter by its name; `sum` is not kept.
function sku_record.set_counter(s, counter, value)
  local index = sku_record.index_of(s, counter)
  if index then
    local totals, kind = s.totals, (index - FIRST) % SIZE
    if totals then totals[kind + 1] = totals[kind + 1] + value - s.r[index] end
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
  open_all(s.r)
  for name, value in pairs(s.counters or {}) do counters[name] = value end
  for w, at in pairs(s.places.at) do
    for kind, offset in pairs(PLACE_OF_KIND) do
      local value = s.r[at + offset]
      if value ~= 0 then counters[kind .. '@' .. w] = value end
    end
  end
  return counters
end

-- -> the value of a counter, and the index of its number, or nil if it has none
function sku_record.counter(s, name)
  local index = sku_record.index_of(s, name)
  return index and s.r[index] or s.counters and s.counters[name] or 0, index
end

-- The sums of the counters of all warehouses, in the order of WAREHOUSE.
function sku_record.sums(s) return s.totals or totals_of(s) end

local function not_empty(map) return map and next(map) ~= nil and map or nil end

-- A SKU from a record by field names: format 1, or as an audit wants it.
function sku_record.from_names(name, record)
  local s = sku_record.new(name)
  s.r[SKU.version], s.r[SKU.at] = record.version or 0, record.at or 0
  local names, seen = {}, {}
  for _, warehouse in ipairs(record.warehouses or {}) do
    if not seen[warehouse] then seen[warehouse], names[#names + 1] = true, warehouse end
  end
  s.places = known_places(table.concat(names, '\n'))
  for i = FIRST, FIRST + SIZE * s.places.count - 1 do s.r[i] = 0 end
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

local function read_many(name, packed, from, length)
  local width = string.byte(packed, 3)
  local _, joined, named, marks = cmsgpack.unpack_limit(packed, 3, from + length - 1)
  local places, free = known_places(joined), from + head_bytes[width]
  local r, totals = {packed = packed, width = width, count = places.count, opened = {}, free = free}, {}
  r.others = free + width * places.count
  r[1], r[2], r[3], r[4], r[5], totals[1], totals[2], totals[3], totals[4] =
    struct.unpack(head_formats[width], packed, from)
  local has_named = named ~= 0
  return {
    sku = name, r = setmetatable(r, lazy), places = places, width = width, packed_marks = marks, totals = totals,
    sum = sum_of(totals), counters = has_named and named.counters or nil, modes = has_named and named.modes or nil,
    policies = has_named and named.policies or nil, stored = packed,
  }
end

function sku_record.read(name, packed)
  if string.sub(packed, 1, 2) ~= HEADER then
    local record = cmsgpack.unpack(packed)
    if record[1] then error('a SKU of format ' .. tostring(record[1])) end
    return sku_record.from_names(name, record)
  end
  local from, length = find_numbers(packed)
  local bytes = string.byte(packed, 3)
  if length >= head_bytes[bytes] + SIZE * bytes * (MANY + 1) then return read_many(name, packed, from, length) end
  local _, width, numbers, joined, named, marks = cmsgpack.unpack_limit(packed, 5, 2)
  local places = known_places(joined)
  local has_named = named ~= 0
  local r = {struct.unpack(layouts[width][places.count], numbers)}
  r[FIRST + SIZE * places.count] = nil -- the position after the last number
  local s = { -- with room for the fields of a change
    sku = name, r = r, places = places, width = width, packed_marks = marks,
    sum = 0, counters = has_named and named.counters or nil, modes = has_named and named.modes or nil,
    policies = has_named and named.policies or nil, dirty = false, place = nil, logged_from = nil, sum_was = nil,
    packed = nil, marks = nil,
  }
  local sum = 0
  for at = FIRST, FIRST + SIZE * (places.count - 1), SIZE do sum = sum + free_at(r, at) end
  s.sum = sum
  return s
end

-- The fields that only movements need.
function sku_record.marks_of(s)
  if not s.marks then s.marks = s.packed_marks ~= '' and cmsgpack.unpack(s.packed_marks) or {} end
  return s.marks
end

local function packed_head(s)
  local r, totals = s.r, s.totals
  return struct.pack(head_formats[s.width], r[1], r[2], r[3], r[4], r[5], unpack(totals))
end

-- -> the packed free units of a warehouse, and its other numbers
local function packed_at(s, at)
  local r, width = s.r, s.width
  return struct.pack(number_formats[width], free_at(r, at)),
    struct.pack(others_formats[width], r[at + 1], r[at + 2], r[at + 3])
end

-- Append to `parts` the bytes of `r.packed` from `from` on, `size` for each stored warehouse, with `changed[i]` for
-- those of `opened[i]`.
local function splice(parts, r, from, size, opened, changed)
  local position, stop = from, from + size * r.count
  for i, at in ipairs(opened) do
    local place_from = from + size * (at - FIRST) / SIZE
    if place_from > position then parts[#parts + 1] = string.sub(r.packed, position, math.min(place_from, stop) - 1) end
    parts[#parts + 1] = changed[i]
    position = place_from + size
  end
  if position < stop then parts[#parts + 1] = string.sub(r.packed, position, stop - 1) end
end

-- Widen where the free units of a warehouse do not fit, though each of its numbers does.
local function fit_free(s)
  local r = s.r
  local function fit(at)
    if math.abs(free_at(r, at)) > sku_record.NARROW_MAX then s.width = WIDE end
  end
  if r.packed then
    for _, at in ipairs(r.opened) do fit(at) end
  else
    for place = 1, s.places.count do fit(FIRST + SIZE * (place - 1)) end
  end
end

-- Append to `parts` the numbers of all warehouses of a SKU in many.
local function add_numbers(parts, s)
  local r, width, opened, free, others = s.r, s.width, s.r.opened, {}, {}
  if r.packed and r.width == width then
    table.sort(opened)
    for i, at in ipairs(opened) do free[i], others[i] = packed_at(s, at) end
    splice(parts, r, r.free, width, opened, free)
    splice(parts, r, r.others, (SIZE - 1) * width, opened, others)
    return
  end
  open_all(r)
  for place = 1, s.places.count do free[place], others[place] = packed_at(s, FIRST + SIZE * (place - 1)) end
  parts[#parts + 1] = table.concat(free)
  parts[#parts + 1] = table.concat(others)
end

function sku_record.pack(s)
  local named, marks, count = '\0', s.packed_marks, s.places.count
  if s.counters or s.modes or s.policies then
    s.counters, s.modes, s.policies = not_empty(s.counters), not_empty(s.modes), not_empty(s.policies)
    if s.counters or s.modes or s.policies then
      named = cmsgpack.pack({counters = s.counters, modes = s.modes, policies = s.policies})
    end
  end
  if s.marks then marks = next(s.marks) ~= nil and cmsgpack.pack(s.marks) or '' end
  marks = marks == '' and '\160' or cmsgpack.pack(marks)
  if count > MANY then
    s.totals = s.totals or totals_of(s)
    fit_free(s)
    local parts = {
      HEADER, string.char(s.width), str_header(head_bytes[s.width] + SIZE * s.width * count), packed_head(s),
    }
    add_numbers(parts, s)
    parts[#parts + 1] = s.places.packed
    parts[#parts + 1] = named .. marks
    return table.concat(parts)
  end
  local numbers = cmsgpack.pack(struct.pack(layouts[s.width][count], unpack(s.r, 1, FIRST - 1 + SIZE * count)))
  return HEADER .. string.char(s.width) .. numbers .. s.places.packed .. named .. marks
end

-- What to write over the record of a SKU in many warehouses of which few numbers have changed, and nothing else: a list
-- {offset, bytes, …}; else nil
function sku_record.changes(s)
  local r = s.r
  if not r.packed then return nil end
  fit_free(s)
  local width = s.width
  if r.width ~= width or #r.opened > SPLICED_MAX or s.places.count ~= r.count
    or s.named_changed or s.sides or s.new_marks or s.carried then
    return nil
  end
  local list = {r.free - head_bytes[width] - 1, packed_head(s)}
  local function add(position, bytes)
    if string.sub(r.packed, position, position + #bytes - 1) == bytes then return end
    list[#list + 1], list[#list + 2] = position - 1, bytes
  end
  for _, at in ipairs(r.opened) do
    local place, free, others = (at - FIRST) / SIZE, packed_at(s, at)
    add(r.free + width * place, free)
    add(r.others + (SIZE - 1) * width * place, others)
  end
  return list
end

end
