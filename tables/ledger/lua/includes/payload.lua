-- The payload of a batch: msgpack of tables/ledger/records.py, Decision.
local FORMAT = 1
local payload = {}
do

local ORDERS_AT_RISK_MAX = 100 -- named in one shortfall, newest holds first
local ORDERS_READ_MAX = 1000 -- read for all shortfalls of a batch
local ALERT_BYTES_MAX = 1048576 -- each alert becomes a row, and a batch can cross the thresholds of all channels
local TRUE, FALSE, NIL = '\195', '\194', '\192'

-- Rule 34: add the affected orders to each shortfall of a warehouse.
local function name_orders_at_risk()
  local left = ORDERS_READ_MAX
  for _, a in ipairs(alerts) do
    if a.type == 'shortfall' and left > 0 then
      local at_risk = {}
      local ids = redis.call('ZREVRANGE', KEYS[1] .. 'held:' .. a.sku, 0, math.min(left, ORDERS_AT_RISK_MAX) - 1)
      left = left - #ids
      for _, id in ipairs(ids) do
        local o = get_order(id)
        for _, line in ipairs(o and o.r.lines or {}) do
          if line.sku == a.sku and line.warehouses and line.warehouses[a.warehouse] then at_risk[#at_risk + 1] = id end
        end
      end
      a.orders = #at_risk > 0 and at_risk or nil
    end
  end
end

-- Alerts up to ALERT_BYTES_MAX, mode switches of channels last; one more alert counts those that are omitted.
local function packed_alerts()
  name_orders_at_risk()
  local rows, bytes, omitted = {}, 0, 0
  for _, is_switch in ipairs({false, true}) do
    for _, a in ipairs(alerts) do
      if (a.type == 'low_stock') == is_switch then
        local row = bytes < ALERT_BYTES_MAX and pack(a)
        if row then
          rows[#rows + 1], bytes = row, bytes + #row
        else
          omitted = omitted + 1
        end
      end
    end
  end
  if omitted > 0 then rows[#rows + 1] = pack({type = 'alerts_omitted', quantity = omitted}) end
  return packed_array(rows)
end

local GONE = pack({state = 'parked'}) -- the row after parked events have ended

-- Parked events are rows too: their input is committed, so only the journal can restore them.
local function order_rows()
  local rows = {}
  local function add(o)
    if o.replaced or o.in_payload or not (o.packed or o.dropped) then return end
    if o.dropped and orders[o.id] then return end -- replaced by a newer one
    o.in_payload = true
    local row = o.dropped and GONE or o.packed
    rows[#rows + 1] = '\147' .. pack(o.id) .. row .. ((o.changed or o.restated) and TRUE or FALSE)
  end
  for _, o in ipairs(orders_included) do add(o) end
  for _, o in ipairs(orders_changed) do add(o) end
  for _, o in ipairs(orders_restated) do add(o) end
  return rows
end

local function movement_rows()
  local rows = {}
  for _, m in ipairs(movements_included) do
    if not m.in_payload then
      m.in_payload = true
      rows[#rows + 1] = '\148' .. pack(m.warehouse) .. pack(m.id) .. m.packed .. (m.changed and TRUE or FALSE)
    end
  end
  return rows
end

-- The counters in this batch's effects, by SKU.
local function touched_counters()
  local touched = {}
  for _, effect in ipairs(effects) do
    local names = touched[effect[1]] or {}
    touched[effect[1]] = names
    for name in pairs(effect[4]) do names[name] = true end
  end
  return touched
end

-- The changed threshold sides, channels with equal sides grouped; a channel is given by its index in `used.names`.
local function sides_of(s, used)
  local groups, rows = {}, {}
  for channel in pairs(s.sides or {}) do
    local side = s.r.modes[channel]
    local state = not side and 0 or side.below and 1 or 2
    local left_at, due = side and side.left_at or 0, side and side.due or 0
    local group = state .. ' ' .. left_at .. ' ' .. due
    local row = groups[group]
    if not row then
      row = {state, left_at, due, {}}
      groups[group], rows[#rows + 1] = row, row
    end
    if not used.place[channel] then
      used.names[#used.names + 1] = channel
      used.place[channel] = #used.names - 1
    end
    row[4][#row[4] + 1] = used.place[channel]
  end
  return rows
end

-- `on_hand@` of `on_hand@SH1`, cached: SKUs share warehouse names.
local KIND_OF = setmetatable({}, {__index = function(kinds, name)
  local kind = string.match(name, '^[%a_]+') .. '@'
  kinds[name] = kind
  return kind
end})

-- A SKU's changed fields, new values (tables/ledger/records.py, SkuPatch); `rest`: sums of the other counters.
local function patch_of(s, touched, used)
  local counters, rest = {}, {}
  for name in pairs(touched) do counters[name] = s.r.counters[name] or 0 end
  for name, value in pairs(s.r.counters) do
    if not touched[name] then
      local kind = KIND_OF[name]
      rest[kind] = (rest[kind] or 0) + value
    end
  end
  local marks = s.marks or {counted = {}, floors = {}}
  return '\154' .. pack(s.sku) .. pack(s.r.version) .. pack(s.r.at) .. pack(counters) .. pack(s.added or {})
    .. pack(sides_of(s, used)) .. pack(marks.counted) .. pack(marks.floors)
    .. pack(s.carried or {}) .. pack(rest)
end

-- Whole rows up to the limit, patches beyond it: a whole row grows with the number of warehouses and channels, a patch
-- only with what the batch changed.
local function sku_rows()
  local rows, patches, used, bytes, touched = {}, {}, {names = {}, place = {}}, 0, nil
  for _, s in ipairs(sku_order) do
    if s.must_be_whole or bytes + #s.packed <= limits.whole_rows_bytes_max then
      local row = '\147' .. pack(s.sku) .. s.packed .. packed_offers(s)
      rows[#rows + 1] = row
      bytes = bytes + #row
      writing.note_whole(s)
    else
      touched = touched or touched_counters()
      patches[#patches + 1] = patch_of(s, touched[s.sku] or {}, used)
      writing.note_patched(s)
    end
  end
  return packed_array(rows), #patches > 0 and '\146' .. pack(used.names) .. packed_array(patches) or nil
end

-- Trailing empty fields are omitted.
function payload.of(batch, results)
  local skus_packed, patches = sku_rows()
  local is_repaired = #repairs.list > 0
  local is_patched, has_moves = patches ~= nil, #moves.list > 0
  local tail, fields = '', 12
  if is_repaired or is_patched or has_moves then tail, fields = is_repaired and repairs.packed() or '\144', 13 end
  if is_patched or has_moves then tail, fields = tail .. (patches or '\144'), 14 end
  if has_moves then tail, fields = tail .. pack(moves.list), 15 end
  return array_header(fields) .. pack(FORMAT) .. pack(batch) .. pack(now) .. pack(results)
    .. packed_array(order_rows()) .. packed_array(movement_rows()) .. skus_packed .. pack(effects)
    .. packed_array(policy_rows) .. (registry_changed and packed_registry() or NIL) .. packed_alerts() .. pack(refused)
    .. tail
end

end
