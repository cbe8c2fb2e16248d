-- The orders of a batch in memory: {id, record, packed, …}; `record` is the stored one (tables/ledger/records.py,
-- OrderRecord); `was_held`, `was_due`, `was_waiting` are its entries in indexes before the first change.

local batch = require('batch')
local order_record = require('order_record')

local known, included, changed, restated = {}, {}, {}, {}
-- The places of VIP orders in `held:<sku>` lie below those of others. A double holds all of them exactly.
local VIP_OFFSET = 2 ^ 51
-- `was_held` of an order that this batch places.
local none_held = {}
local PLACED_FOR_MAX_MS = 604800000 -- 7 days: the limit of a hold with its extensions

local function open(id, packed)
  local order = {id = id, packed = packed, record = order_record.unpack(packed)}
  known[id] = order
  return order
end

local function get(id)
  local order = known[id]
  if order == nil then
    local packed = redis.call('GET', KEYS[1] .. 'order:' .. id)
    order = packed and open(id, packed) or false
    known[id] = order
  end
  return order
end

-- Must be called before the first change of an order.
local function mark_changed(order)
  if order.changed then return end
  order.changed = true
  changed[#changed + 1] = order
  order.was_due, order.was_waiting = order_record.deadline(order.record), order_record.parked_bytes(order.record)
  order.was_held = {}
  for _, line in ipairs(order.record.lines) do
    if line.reserved then order.was_held[line.sku] = true end
  end
  if order.record.bounded then require('unpaid').begin(order) end
end

local function include(order)
  if order and not order.included then
    order.included = true
    included[#included + 1] = order
  end
end

-- Must be called after a change of an order's units or of its state, while it may be unpaid.
local function note_unpaid(order)
  if order.record.bounded and order.changed then require('unpaid').note(order) end
end

-- Whether an order was requested; an event that arrived before it is none.
local function is_requested(order) return order and order.record.state ~= 'parked' end

-- Whether events of the order can be applied; until then they wait.
local function is_placed(order)
  return order and order.record.state ~= 'parked' and order.record.state ~= 'awaiting_approval'
end

-- The place of an order among those that hold units of a SKU (includes/held.lua).
local function hold_place(record)
  local at = record.placed_at or 0
  return record.priority == 'vip' and at - VIP_OFFSET or at
end

local function open_units(line) return (line.reserved or 0) + (line.preordered or 0) + (line.short or 0) end

-- The state of a line with units that are still to be shipped; nil if it has none.
local function open_state(order, line)
  if line.preordered then return 'preordered' end
  if line.reserved or line.short then return order.record.state == 'paid' and 'committed' or 'reserved' end
end

-- The line of a SKU, or nil. An event may name each of 2,000 lines.
local function line_of(order, sku_name)
  local lines = order.record.lines
  if order.indexed ~= lines then
    order.indexed, order.by_sku = lines, {}
    for _, line in ipairs(lines) do order.by_sku[line.sku] = line end
  end
  return order.by_sku[sku_name]
end

-- Zero is not stored.
local function add_to(map, field, units)
  local value = (map[field] or 0) + units
  if value == 0 then map[field] = nil else map[field] = value end
end

local function put_units(line, warehouse, units)
  if units == 0 then return end
  if line.warehouses then
    add_to(line.warehouses, warehouse, units)
    if next(line.warehouses) == nil then line.warehouses = nil end
  else
    line.warehouses = {[warehouse] = units}
  end
  add_to(line, 'reserved', units)
end

-- The first event ids of an order are stored with their fingerprints. Later ids (an order of many parcels has
-- thousands) are stored in one string, `event_digests`: 16 hex digits of the id's digest, 8 of the fingerprint's. None
-- is dropped.
local ID_DIGITS, ENTRY_DIGITS = 16, 24

local function digits_of(id) return string.sub(redis.sha1hex(id), 1, ID_DIGITS) end
local function body_of(fingerprint) return string.sub(redis.sha1hex(fingerprint), 1, ENTRY_DIGITS - ID_DIGITS) end

-- -> the fingerprint of the applied event with the id of `command` (the stored digest if only that is kept and it
-- differs), or nil
local function event_of(order, command)
  local events, digests = order.record.events, order.record.event_digests
  for i = 1, #events, 2 do
    if events[i] == command.id then return events[i + 1] end
  end
  local at, digits = 0, digests and digits_of(command.id)
  while digests do
    at = string.find(digests, digits, at + 1, true)
    if not at then return nil end
    if at % ENTRY_DIGITS == 1 then
      local body = string.sub(digests, at + ID_DIGITS, at + ENTRY_DIGITS - 1)
      return body == body_of(command.fingerprint) and command.fingerprint or body
    end
  end
end

local function record_event(order, command)
  mark_changed(order)
  local events = order.record.events
  if #events < 2 * batch.limits.event_ids_listed then
    events[#events + 1], events[#events + 2] = command.id, command.fingerprint
  else
    local digest = digits_of(command.id) .. body_of(command.fingerprint)
    order.record.event_digests = (order.record.event_digests or '') .. digest
  end
end

local function advance_sequence(order) order.record.sequence = (order.record.sequence or 0) + 1 end

local function finish(order, state)
  order.record.state, order.record.expires_at = state, nil
  advance_sequence(order)
end

-- A line's held units by warehouse, in the SKU's order of warehouses, so that the result is deterministic.
local function held_at(sku, line)
  local held = {}
  local places = sku.places
  if #places.names == 0 or not line.warehouses then return held end
  for warehouse, units in pairs(line.warehouses) do
    if places.at[warehouse] then held[#held + 1] = {warehouse, units} end
  end
  if #held > 1 then table.sort(held, function(a, b) return places.at[a[1]] < places.at[b[1]] end) end
  return held
end

return {
  known = known, included = included, changed = changed, restated = restated, open = open, get = get, include = include,
  finish = finish, PLACED_FOR_MAX_MS = PLACED_FOR_MAX_MS, event_of = event_of, record_event = record_event,
  mark_changed = mark_changed, is_placed = is_placed, add_to = add_to, put_units = put_units,
  advance_sequence = advance_sequence, held_at = held_at, open_units = open_units, open_state = open_state,
  line_of = line_of, is_requested = is_requested, hold_place = hold_place, none_held = none_held,
  note_unpaid = note_unpaid,
}
