-- Announced receipts (rules 5, 14, 17). An announcement is the movement `<warehouse>\n<id>` of the kind `expect`: `at`
-- is the time of its newest body, and each line has the announced `quantity`, the units `received`, and those that are
-- still `incoming`, which are the SKU's counter `incoming#<id>`. An accepted one has an `eta`.
-- Indexes: `expected` (the announcements that are listed), `overdue` (those that an alert has named), `etas` (by the ms
-- of their next step, expected_tick.lua); of a SKU `expected:<sku>` (listed) and `incoming:<sku>` (with units to come,
-- by `eta`).

local batch = require('batch')
local indexes = require('indexes')
local movements = require('movements')
local prefetch = require('prefetch')
local skus = require('skus')

-- One of which nothing is to come is listed for 7 days after its last change: a day less than its record lives.
local LISTED_MS = 604800000

local touched = {} -- announcements with changed index entries
local opened = {} -- by SKU, entries that this batch adds to `incoming:<sku>`, less those that it removes
local lists = {expected = {add = {}, drop = {}}, overdue = {add = {}, drop = {}}, etas = {add = {}, drop = {}}}

local function is_open(record)
  if record.outcome == O.APPLYING then return true end
  for _, line in ipairs(record.lines or {}) do
    if line.incoming then return true end
  end
  return false
end

-- Add a changed announcement to the batch's writes; `line`: one whose index entries may change.
local function touch(movement, line)
  if not movement.touched then
    movement.touched, touched[#touched + 1] = {}, movement
    movement.changed, movement.packed = true, nil
    movement.record.applied_at, movement.unlisted = batch.now, nil
    movements.included[#movements.included + 1] = movement
  end
  if line then movement.touched[line] = true end
end

-- Units of a line that are still to come.
local function due_of(line) return math.max(0, line.quantity - (line.received or 0)) end

-- Bring a SKU's counter up to the line, as part of the change of the SKU that has begun. -> by how much it changed
local function settle_line(sku, movement, line)
  local due, was = due_of(line), line.incoming or 0
  if (due > 0) ~= (was > 0) then opened[sku.name] = (opened[sku.name] or 0) + (due > 0 and 1 or -1) end
  line.incoming = due > 0 and due or nil
  skus.change_named(sku, 'incoming#' .. movement.id, due - was)
  line.eta_pending = nil
  require('promises').announce(sku, movements.key_of(movement.warehouse, movement.id), movement.record.eta, due)
  touch(movement, line)
  return due - was
end

local function lines_by_sku(record)
  local by_sku = {}
  for _, line in ipairs(record.lines or {}) do by_sku[line.sku] = line end
  return by_sku
end

-- The first of the SKUs that one call may change: each line costs twice as much as that of another movement.
local function of_step(names)
  local lines_max = batch.limits.lines_per_step
  if #names > 2 * lines_max then names = {unpack(names, 1, 2 * lines_max)} end
  return #names > lines_max and prefetch.names_within('sku:', names, batch.limits.step_bytes_max) or names
end

-- Whether the listing of one of which nothing is to come is over.
local function is_over(record) return not is_open(record) and batch.now >= record.applied_at + LISTED_MS end

-- Leave the indexes, apart from those of SKUs: the record is gone.
local function drop(key)
  for _, list in pairs(lists) do list.drop[#list.drop + 1] = key end
end

-- Write the index entries of a record that a repair puts back.
local function put_back(movement)
  movement.touched, touched[#touched + 1] = {}, movement
  for _, line in ipairs(movement.record.lines or {}) do movement.touched[line] = true end
end

local function put(list, key, score)
  local changes = score and list.add or list.drop
  if score then changes[#changes + 1] = score end
  changes[#changes + 1] = key
end

local function put_line(key, line, record, is_listed)
  local listed, incoming = KEYS[1] .. 'expected:' .. line.sku, KEYS[1] .. 'incoming:' .. line.sku
  if is_listed and (line.received or line.outcome == O.EXPECTED) then
    redis.call('ZADD', listed, 0, key)
  else
    redis.call('ZREM', listed, key)
  end
  if is_listed and line.incoming then
    redis.call('ZADD', incoming, record.eta, key)
  else
    redis.call('ZREM', incoming, key)
  end
end

local function index(movement)
  local record, lines, is_listed = movement.record, movement.touched or {}, not movement.unlisted
  local key = movements.key_of(movement.warehouse, movement.id)
  local open = is_open(record)
  local due = not open and record.applied_at + LISTED_MS or not record.overdue and record.eta or nil
  put(lists.expected, key, is_listed and 0)
  put(lists.overdue, key, is_listed and open and record.overdue and 0)
  put(lists.etas, key, is_listed and due)
  for _, line in ipairs(record.lines or {}) do
    if movement.unlisted or lines[line] then put_line(key, line, record, is_listed) end
  end
end

batch.writers[#batch.writers + 1] = function()
  for _, movement in ipairs(touched) do index(movement) end
  for name, list in pairs(lists) do indexes.write(name, list) end
end

return {
  -- Of one announcement: the lines of two bodies that have no SKU in common, or what came without being announced.
  LINES_MAX = 4000,
  touched = touched, opened = opened, is_open = is_open, is_over = is_over, touch = touch, due_of = due_of,
  settle_line = settle_line, lines_by_sku = lines_by_sku, of_step = of_step, put_back = put_back, drop = drop,
}
