-- An order in memory: `o = {id, r, packed, …}`; `r` is the stored record (tables/records.py, OrderRecord).
-- `o.was_held`, `o.was_due` remember what the index keys hold, from before the first change.
local orders, orders_asked, orders_changed, orders_restated = {}, {}, {}, {}
local EVENTS_MAX = 64 -- of one order; the next is refused, never forgotten
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
  o.was_due = o.r.expires_at
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

-- fingerprint of an applied event of this order, or nil
local function event_of(o, id)
  local events = o.r.events
  for i = 1, #events, 2 do
    if events[i] == id then return events[i + 1] end
  end
end

local function is_full(o) return #o.r.events >= 2 * EVENTS_MAX end

local function note_event(o, cmd)
  changing(o)
  local events = o.r.events
  events[#events + 1], events[#events + 2] = cmd.id, cmd.fingerprint
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
