-- An order in memory: `o = {id, r, packed, …}`; `r` is the stored record (tables/ledger/records.py, OrderRecord).
-- `o.was_held`, `o.was_due`, `o.was_waiting` remember what the index keys hold, from before the first change.
local orders, orders_asked, orders_changed, orders_restated = {}, {}, {}, {}
local waiting = {delta = 0} -- events that wait (waiting.lua)
local PLACED_FOR_MAX_MS = 604800000 -- 7 days: no hold may be extended beyond that

local function open_order(id, packed)
  local o = {id = id, packed = packed, r = unpack_all(packed)}
  o.r.lines, o.r.events = o.r.lines or {}, o.r.events or {}
  orders[id] = o
  return o
end

local function get_order(id)
  local o = orders[id]
  if o == nil then
    local packed = redis.call('GET', KEYS[1] .. 'order:' .. id)
    o = packed and open_order(id, packed) or false
    orders[id] = o
  end
  return o
end

-- Must be called before an order is changed.
local function changing(o)
  if o.changed then return end
  o.changed = true
  orders_changed[#orders_changed + 1] = o
  o.was_due, o.was_waiting = waiting.deadline(o.r), waiting.bytes(o.r)
  o.was_held = {}
  for _, line in ipairs(o.r.lines) do
    if line.reserved then o.was_held[line.sku] = true end
  end
end

local function asked(o)
  if o and not o.asked then
    o.asked = true
    orders_asked[#orders_asked + 1] = o
  end
end

local function is_seen(o) return o and o.r.state ~= 'parked' end

-- Zero is not stored.
local function add_to(map, field, n)
  local value = (map[field] or 0) + n
  if value == 0 then map[field] = nil else map[field] = value end
end

local function put_units(line, w, n)
  if n == 0 then return end
  line.warehouses = line.warehouses or {}
  add_to(line.warehouses, w, n)
  if is_empty(line.warehouses) then line.warehouses = nil end
  add_to(line, 'reserved', n)
end

local event_of, note_event
do
-- The first ids of an order are kept as they are, with their fingerprints. Those beyond, of which an order of many
-- parcels has thousands, are kept in one string, `event_digests`: 16 hex digits of the id's digest, 8 of the
-- fingerprint's. None is forgotten.
local ID_DIGITS, ENTRY_DIGITS = 16, 24

local function digits_of(id) return string.sub(redis.sha1hex(id), 1, ID_DIGITS) end
local function body_of(fingerprint) return string.sub(redis.sha1hex(fingerprint), 1, ENTRY_DIGITS - ID_DIGITS) end

-- The fingerprint of the applied event of this order that has the id of `cmd` (where only its digest is kept and
-- another body has it: that digest); nil if there is none.
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

function note_event(o, cmd)
  changing(o)
  local events = o.r.events
  if #events < 2 * limits.event_ids_listed then
    events[#events + 1], events[#events + 2] = cmd.id, cmd.fingerprint
  else
    o.r.event_digests = (o.r.event_digests or '') .. digits_of(cmd.id) .. body_of(cmd.fingerprint)
  end
end
end

local function step(o) o.r.sequence = (o.r.sequence or 0) + 1 end

local function end_order(o, state)
  o.r.state, o.r.expires_at = state, nil
  step(o)
end

-- Where a line's held units are, in the SKU's own order of warehouses: the same on every run.
local function held_at(s, line)
  local held = {}
  for _, w in ipairs(s.r.warehouses) do
    local n = line.warehouses and line.warehouses[w]
    if n then held[#held + 1] = {w, n} end
  end
  return held
end
