-- The numbers of a SKU: those of SKU, then those of WAREHOUSE for each warehouse; a stored counter has `width` bytes.
-- Of a SKU in more than WAREHOUSE.many warehouses, four sums over the warehouses, of 8 bytes, are stored after those of
-- SKU, then the free units of each warehouse, then the other three numbers of each. In memory the order is the same.
-- struct packs a number four times as fast as cmsgpack, and SKUs are half of what an order costs.
-- `numbers.pooled`: false or nil, or the units in pools by the index of a warehouse's first number (sku_record.lua).

local FIRST, SIZE, MANY = WAREHOUSE.first, WAREHOUSE.size, WAREHOUSE.many
local NARROW, WIDE = 4, 8 -- bytes of a counter
local NARROW_MAX, WIDE_MAX = 2 ^ 31 - 1, 2 ^ 53
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
  number_formats[width], others_formats[width] = '>i' .. width, integers_format(width, SIZE - 1)
end

-- The largest number that fits.
local function limit(width) return width == NARROW and NARROW_MAX or WIDE_MAX end

local function fits(value) return value <= NARROW_MAX and value >= -NARROW_MAX end

-- The units at a warehouse that no order holds, given the index of its first number.
local function unheld_at(numbers, at)
  return numbers[at + WAREHOUSE.on_hand] - numbers[at + WAREHOUSE.committed] - numbers[at + WAREHOUSE.locked]
end

-- The units free at a warehouse: neither held nor in a pool.
local function free_at(numbers, at)
  local pooled = numbers.pooled
  local held = numbers[at + WAREHOUSE.committed] + numbers[at + WAREHOUSE.locked]
  local unheld = numbers[at + WAREHOUSE.on_hand] - held
  return pooled and unheld - (pooled[at] or 0) or unheld
end

-- Of a SKU in many warehouses: `packed` is its record; the free units of `count` warehouses, those in pools included,
-- begin at `free`, the other numbers at `others`. Those of a warehouse are unpacked when one of them is first read;
-- `opened` lists the index of the first of them.
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

-- The numbers at position `from` of the record `packed`. -> them, and the sums over the warehouses where the record has
-- them
local function read(packed, from, width, count)
  if count <= MANY then
    local numbers = {struct.unpack(layouts[width][count], packed, from)}
    numbers[FIRST + SIZE * count] = nil -- the position after the last number
    return numbers
  end
  local free = from + head_bytes[width]
  local sums, numbers = {}, {packed = packed, width = width, count = count, opened = {}, free = free}
  numbers.pooled = false
  numbers.others = free + width * count
  numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], sums[1], sums[2], sums[3], sums[4] =
    struct.unpack(head_formats[width], packed, from)
  return setmetatable(numbers, lazy), sums
end

-- Unpack the numbers of all warehouses.
local function open_all(numbers)
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

-- Sums over the warehouses, in the order of WAREHOUSE.
local function sums_of(numbers, count)
  local sums = {0, 0, 0, 0}
  open_all(numbers)
  for at = FIRST, FIRST + SIZE * (count - 1), SIZE do
    for kind = 0, SIZE - 1 do sums[kind + 1] = sums[kind + 1] + numbers[at + kind] end
  end
  return sums
end

-- The free units of each warehouse, in their order. What is packed stays packed.
local function free_units(numbers, count)
  local free = {}
  if numbers.packed then
    free = {struct.unpack(integers_format(numbers.width, numbers.count), numbers.packed, numbers.free)}
    for _, at in ipairs(numbers.opened) do free[(at - FIRST) / SIZE + 1] = unheld_at(numbers, at) end
    free[count + 1] = nil -- the position after the last number
  else
    for place = 1, count do free[place] = unheld_at(numbers, FIRST + SIZE * (place - 1)) end
  end
  for at, units in pairs(numbers.pooled or {}) do
    local place = (at - FIRST) / SIZE + 1
    free[place] = free[place] - units
  end
  return free
end

-- Of a SKU in many warehouses: the first with the most free units. -> the index of its first number
local function best(numbers, count)
  local free = free_units(numbers, count)
  local most = math.max(unpack(free, 1, count))
  for place = 1, count do
    if free[place] == most then return FIRST + SIZE * (place - 1) end
  end
end

-- Add a warehouse at the index `at`.
local function append(numbers, at)
  for i = at, at + SIZE - 1 do numbers[i] = 0 end
  if numbers.packed then numbers.opened[#numbers.opened + 1] = at end
end

local function packed_head(sku)
  local first, second, third, fourth, fifth = unpack(sku.numbers, 1, FIRST - 1)
  return struct.pack(head_formats[sku.width], first, second, third, fourth, fifth, unpack(sku.totals))
end

-- -> the packed free units of a warehouse, and its other numbers
local function packed_at(sku, at)
  local numbers, width = sku.numbers, sku.width
  return struct.pack(number_formats[width], unheld_at(numbers, at)),
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
    if not fits(unheld_at(numbers, at)) then sku.width = WIDE end
  end
  if numbers.packed then
    for _, at in ipairs(numbers.opened) do fit(at) end
  else
    for place = 1, sku.places.count do fit(FIRST + SIZE * (place - 1)) end
  end
end

local function packed_many(sku)
  sku.totals = sku.totals or sums_of(sku.numbers, sku.places.count)
  fit_free(sku)
  local numbers, width, opened = sku.numbers, sku.width, sku.numbers.opened
  local parts, free, others = {packed_head(sku)}, {}, {}
  if numbers.packed and numbers.width == width then
    table.sort(opened)
    for i, at in ipairs(opened) do free[i], others[i] = packed_at(sku, at) end
    splice(parts, numbers, numbers.free, width, opened, free)
    splice(parts, numbers, numbers.others, (SIZE - 1) * width, opened, others)
  else
    open_all(numbers)
    for place = 1, sku.places.count do free[place], others[place] = packed_at(sku, FIRST + SIZE * (place - 1)) end
    parts[2], parts[3] = table.concat(free), table.concat(others)
  end
  return table.concat(parts)
end

local function pack(sku)
  local count = sku.places.count
  if count > MANY then return packed_many(sku) end
  return struct.pack(layouts[sku.width][count], unpack(sku.numbers, 1, FIRST - 1 + SIZE * count))
end

-- What to write over the record of a SKU in many warehouses of which few numbers have changed: a list {offset, bytes,
-- …}; else nil
local function changes(sku)
  local numbers = sku.numbers
  if not numbers.packed then return nil end
  fit_free(sku)
  local width = sku.width
  if numbers.width ~= width or #numbers.opened > SPLICED_MAX or sku.places.count ~= numbers.count then return nil end
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

return {
  NARROW = NARROW, WIDE = WIDE, limit = limit, fits = fits, unheld_at = unheld_at, free_at = free_at, read = read,
  open_all = open_all, sums_of = sums_of, free_units = free_units, best = best, append = append, pack = pack,
  changes = changes,
}
