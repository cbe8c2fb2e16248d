-- An order in memory: `o = {id, r, packed, …}`; `r` is the stored record (tables/ledger/records.py, OrderRecord).
-- `o.was_held`, `o.was_due`, `o.was_waiting`: the index entries before the first change.
local orders, orders_included, orders_changed, orders_restated, waiting, PLACED_FOR_MAX_MS, event_of, record_event,
  open_order, get_order, mark_changed, include_order, is_placed, add_to, put_units, advance_sequence, end_order,
  held_at
do
orders, orders_included, orders_changed, orders_restated = {}, {}, {}, {}
waiting = {delta = 0} -- parked events (waiting.lua)
PLACED_FOR_MAX_MS = 604800000 -- 7 days: the limit of a hold with its extensions

function open_order(id, packed)
  local o = {id = id, packed = packed, r = order_record.unpack(packed)}
  orders[id] = o
  return o
end

function get_order(id)
  local o = orders[id]
  if o == nil then
    local packed = redis.call('GET', KEYS[1] .. 'order:' .. id)
    o = packed and open_order(id, packed) or false
    orders[id] = o
  end
  return o
end

-- Must be called before the first change of an order.
function mark_changed(o)
  if o.changed then return end
  o.changed = true
  orders_changed[#orders_changed + 1] = o
  o.was_due, o.was_waiting = waiting.deadline(o.r), waiting.bytes(o.r)
  o.was_held = {}
  for _, line in ipairs(o.r.lines) do
    if line.reserved then o.was_held[line.sku] = true end
  end
end

function include_order(o)
  if o and not o.included then
    o.included = true
    orders_included[#orders_included + 1] = o
  end
end

function is_placed(o) return o and o.r.state ~= 'parked' end

-- Zero is not stored.
function add_to(map, field, n)
  local value = (map[field] or 0) + n
  if value == 0 then map[field] = nil else map[field] = value end
end

function put_units(line, w, n)
  if n == 0 then return end
  if line.warehouses then
    add_to(line.warehouses, w, n)
    if is_empty(line.warehouses) then line.warehouses = nil end
  else
    line.warehouses = {[w] = n}
  end
  add_to(line, 'reserved', n)
end

do
-- The first event ids of an order are stored with their fingerprints. Later ids (an order of many parcels has
-- thousands) are stored in one string, `event_digests`: 16 hex digits of the id's digest, 8 of the fingerprint's. None
-- is dropped.
local ID_DIGITS, ENTRY_DIGITS = 16, 24

local function digits_of(id) return string.sub(redis.sha1hex(id), 1, ID_DIGITS) end
local function body_of(fingerprint) return string.sub(redis.sha1hex(fingerprint), 1, ENTRY_DIGITS - ID_DIGITS) end

-- -> the fingerprint of the applied event with the id of `cmd` (the stored digest if only that is kept and it differs),
-- or nil
function event_of(o, cmd)
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

function record_event(o, cmd)
  mark_changed(o)
  local events = o.r.events
  if #events < 2 * limits.event_ids_listed then
    events[#events + 1], events[#events + 2] = cmd.id, cmd.fingerprint
  else
    o.r.event_digests = (o.r.event_digests or '') .. digits_of(cmd.id) .. body_of(cmd.fingerprint)
  end
end
end

function advance_sequence(o) o.r.sequence = (o.r.sequence or 0) + 1 end

function end_order(o, state)
  o.r.state, o.r.expires_at = state, nil
  advance_sequence(o)
end

-- A line's held units by warehouse, in the SKU's order of warehouses, so that the result is deterministic.
function held_at(s, line)
  local held = {}
  local places = s.places
  if #places.names == 0 or not line.warehouses then return held end
  for w, n in pairs(line.warehouses) do
    if places.at[w] then held[#held + 1] = {w, n} end
  end
  if #held > 1 then table.sort(held, function(a, b) return places.at[a[1]] < places.at[b[1]] end) end
  return held
end

end
