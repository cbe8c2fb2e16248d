-- An order in memory: `o = {id, r, packed, …}`; `r` is the stored record (tables/ledger/records.py, OrderRecord).
-- `o.was_held`, `o.was_due`, `o.was_waiting`: the index entries before the first change.

local batch = require('batch')
local order_record = require('order_record')

local known, included, changed, restated = {}, {}, {}, {}
local PLACED_FOR_MAX_MS = 604800000 -- 7 days: the limit of a hold with its extensions

local function open(id, packed)
  local o = {id = id, packed = packed, r = order_record.unpack(packed)}
  known[id] = o
  return o
end

local function get(id)
  local o = known[id]
  if o == nil then
    local packed = redis.call('GET', KEYS[1] .. 'order:' .. id)
    o = packed and open(id, packed) or false
    known[id] = o
  end
  return o
end

-- Must be called before the first change of an order.
local function mark_changed(o)
  if o.changed then return end
  o.changed = true
  changed[#changed + 1] = o
  o.was_due, o.was_waiting = order_record.deadline(o.r), order_record.parked_bytes(o.r)
  o.was_held = {}
  for _, line in ipairs(o.r.lines) do
    if line.reserved then o.was_held[line.sku] = true end
  end
end

local function include(o)
  if o and not o.included then
    o.included = true
    included[#included + 1] = o
  end
end

local function is_placed(o) return o and o.r.state ~= 'parked' end

-- Zero is not stored.
local function add_to(map, field, n)
  local value = (map[field] or 0) + n
  if value == 0 then map[field] = nil else map[field] = value end
end

local function put_units(line, w, n)
  if n == 0 then return end
  if line.warehouses then
    add_to(line.warehouses, w, n)
    if next(line.warehouses) == nil then line.warehouses = nil end
  else
    line.warehouses = {[w] = n}
  end
  add_to(line, 'reserved', n)
end

-- The first event ids of an order are stored with their fingerprints. Later ids (an order of many parcels has
-- thousands) are stored in one string, `event_digests`: 16 hex digits of the id's digest, 8 of the fingerprint's. None
-- is dropped.
local ID_DIGITS, ENTRY_DIGITS = 16, 24

local function digits_of(id) return string.sub(redis.sha1hex(id), 1, ID_DIGITS) end
local function body_of(fingerprint) return string.sub(redis.sha1hex(fingerprint), 1, ENTRY_DIGITS - ID_DIGITS) end

-- -> the fingerprint of the applied event with the id of `cmd` (the stored digest if only that is kept and it differs),
-- or nil
local function event_of(o, cmd)
  local events, digests = o.r.events, o.r.event_digests
  for i = 1, #events, 2 do
    if events[i] == cmd.id then return events[i + 1] end
  end
  local at, digits = 0, digests and digits_of(cmd.id)
  while digests do
    at = string.find(digests, digits, at + 1, true)
    if not at then return nil end
    if at % ENTRY_DIGITS == 1 then
      local body = string.sub(digests, at + ID_DIGITS, at + ENTRY_DIGITS - 1)
      return body == body_of(cmd.fingerprint) and cmd.fingerprint or body
    end
  end
end

local function record_event(o, cmd)
  mark_changed(o)
  local events = o.r.events
  if #events < 2 * batch.limits.event_ids_listed then
    events[#events + 1], events[#events + 2] = cmd.id, cmd.fingerprint
  else
    o.r.event_digests = (o.r.event_digests or '') .. digits_of(cmd.id) .. body_of(cmd.fingerprint)
  end
end

local function advance_sequence(o) o.r.sequence = (o.r.sequence or 0) + 1 end

local function finish(o, state)
  o.r.state, o.r.expires_at = state, nil
  advance_sequence(o)
end

-- A line's held units by warehouse, in the SKU's order of warehouses, so that the result is deterministic.
local function held_at(s, line)
  local held = {}
  local places = s.places
  if #places.names == 0 or not line.warehouses then return held end
  for w, n in pairs(line.warehouses) do
    if places.at[w] then held[#held + 1] = {w, n} end
  end
  if #held > 1 then table.sort(held, function(a, b) return places.at[a[1]] < places.at[b[1]] end) end
  return held
end

return {
  known = known, included = included, changed = changed, restated = restated, open = open, get = get, include = include,
  finish = finish, PLACED_FOR_MAX_MS = PLACED_FOR_MAX_MS, event_of = event_of, record_event = record_event,
  mark_changed = mark_changed, is_placed = is_placed, add_to = add_to, put_units = put_units,
  advance_sequence = advance_sequence, held_at = held_at,
}
