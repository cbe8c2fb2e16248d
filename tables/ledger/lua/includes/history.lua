-- Data for late counts (rules 35, 41). A SKU's record holds per warehouse the time of the newest applied count
-- (`counted`) and the time before which an older version dropped movements (`floors`); the movements are in keys of
-- their own (includes/move_keys.lua).

local alerts = require('alerts')
local batch = require('batch')
local move_keys = require('move_keys')
local sku_record = require('sku_record')
local skus = require('skus')

-- An event that arrives within this time of `at` is new. If a count already includes it, two clocks disagree.
local FRESH_MS = 60000
-- No input is dated further in the future (stocktide/settings.py, future_seconds_max).
local AHEAD_MS = 3600000
local HOUR_MS = move_keys.HOUR_MS
local moves_from -- the key `moves-from`, once read

local function number_or_nil(word) return word ~= '-' and tonumber(word) or nil end

local function remember(sku, warehouse, at, units)
  if at < batch.now - move_keys.KEPT_MS then return end -- no count can need it
  local movement = {sku.name, warehouse, at, units}
  batch.moves[#batch.moves + 1] = movement
  sku.moved = sku.moved or {}
  sku.moved[#sku.moved + 1] = movement
end

local function set_mark(sku, map, warehouse, value)
  local marks = sku_record.marks_of(sku)
  marks[map] = marks[map] or {}
  marks[map][warehouse] = value
  sku.new_marks = sku.new_marks or {counted = {}, floors = {}} -- for the patch
  sku.new_marks[map][warehouse] = value or 0
  if next(marks[map]) == nil then marks[map] = nil end -- msgpack packs an empty table as an array
end

-- An older version stored up to 32 movements per warehouse as text in the record: each line is the warehouse, the time
-- of the newest count, the floor ('-' for none), and pairs of time and units. The line of a warehouse is migrated when
-- its stock next moves or is counted. A future time came from a wrong clock: the movement is dated back to the SKU's
-- newest change, and a future floor must not block a new count.
local function migrate_line(sku, warehouse)
  local marks = sku_record.marks_of(sku)
  if not marks.history then return end
  local line, rest = move_keys.split_history(marks.history, warehouse)
  if not line then return end
  marks.history, sku.carried = rest, sku.carried or {}
  sku.carried[#sku.carried + 1] = warehouse
  skus.mark_dirty(sku)
  local counted_at, floor, moved = string.match(line, '^%S+ (%S+) (%S+)(.*)$')
  counted_at, floor = number_or_nil(counted_at), number_or_nil(floor)
  if counted_at and counted_at <= batch.now then set_mark(sku, 'counted', warehouse, counted_at) end
  if floor and floor > batch.now then floor = batch.now - FRESH_MS end
  if floor and floor >= batch.now - move_keys.KEPT_MS then set_mark(sku, 'floors', warehouse, floor) end
  for at, units in string.gmatch(moved, '(%S+) (%S+)') do
    remember(sku, warehouse, math.min(tonumber(at), sku.numbers[SKU.at]), tonumber(units))
  end
end

local function counted_at_of(sku, warehouse)
  migrate_line(sku, warehouse)
  local counted = sku_record.marks_of(sku).counted
  return counted and counted[warehouse]
end

-- The time before which movements of a SKU at `warehouse` are unknown; `sku` is nil for an unknown SKU. FRESH_MS allows
-- a current count to be applied even right after a rebuild from a short journal.
local function floor_of(sku, warehouse)
  moves_from = moves_from or tonumber(redis.call('GET', KEYS[1] .. 'moves-from') or 0)
  local floors = sku and sku_record.marks_of(sku).floors
  return math.max(math.min(moves_from, batch.now - FRESH_MS), floors and floors[warehouse] or 0)
end

-- -> the sum of fields `first + 1` to `last`, and the value of field `first`
local function units_after(key, name, first, last)
  local names = {}
  for i = first, last do names[#names + 1] = name .. i end
  local values, sum = redis.call('HMGET', key, unpack(names)), 0
  for i = 2, #values do sum = sum + (tonumber(values[i] or 0)) end
  return sum, values[1]
end

local function stored_since(sku_name, warehouse, at)
  local hour = math.floor(at / HOUR_MS)
  local key, ms, sum = move_keys.key_of(KEYS[1], sku_name, hour), at - hour * HOUR_MS, 0
  if redis.call('HGET', key, warehouse) then
    local minute, second = math.floor(ms / 60000), math.floor(ms / 1000)
    local more, is_there = units_after(key, warehouse .. '\nm', minute, 59)
    sum = sum + more
    if is_there then
      more, is_there = units_after(key, warehouse .. '\ns', second, minute * 60 + 59)
      sum = sum + more
    end
    if is_there then sum = sum + units_after(key, warehouse .. '\n', ms, second * 1000 + 999) end
  end
  for later = hour + 1, math.floor((batch.now + AHEAD_MS) / HOUR_MS) do
    sum = sum + tonumber(redis.call('HGET', move_keys.key_of(KEYS[1], sku_name, later), warehouse) or 0)
  end
  return sum
end

-- Units that moved after `at`.
local function moved_since(sku, warehouse, at)
  local sum = stored_since(sku.name, warehouse, at)
  for _, movement in ipairs(sku.moved or {}) do
    if movement[2] == warehouse and movement[3] > at then sum = sum + movement[4] end
  end
  return sum
end

local function alert_clock_skew(sku, warehouse, units, at)
  if math.abs(batch.now - at) > FRESH_MS then return end
  alerts.add('already_counted', sku, {warehouse = warehouse, order_id = batch.order_id, quantity = math.abs(units)})
end

-- Move on_hand at `warehouse` by `units` as of `at`. -> false if a count as of that time or later already includes it
local function move_on_hand(sku, warehouse, units, at)
  local counted_at = counted_at_of(sku, warehouse)
  if counted_at and at <= counted_at then
    alert_clock_skew(sku, warehouse, units, at)
    return false
  end
  skus.change(sku, 'on_hand', warehouse, units)
  remember(sku, warehouse, at, units)
  return true
end

batch.writers[#batch.writers + 1] = function() move_keys.put(KEYS[1], batch.moves, batch.now) end

return {
  set_mark = set_mark, counted_at_of = counted_at_of, floor_of = floor_of, moved_since = moved_since,
  move_on_hand = move_on_hand,
}
