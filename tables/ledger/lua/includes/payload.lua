-- The payload of a batch (tables/ledger/raw_decision.py, _PackedDecision).
local FORMAT = 2
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

local GONE = order_record.pack({state = 'parked'}) -- the row after parked events have ended

-- Parked events are rows too: their input is committed, so only the journal can restore them.
local function order_rows()
  local rows = {}
  local function add(o)
    if o.replaced or o.in_payload or not (o.packed or o.dropped) then return end
    if o.dropped and orders[o.id] then return end -- replaced by a newer one
    o.in_payload, o.row = true, #rows
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

-- By SKU, the counters in this batch's effects, which get their names: a patch has no list of warehouses.
local function name_counters(patched)
  local touched, at = {}, 1
  while at < log.size do
    local s, last = sku_order[log[at] + 1], at + 3 + 2 * log[at + 3]
    if patched[s] then
      local names = touched[s] or {}
      touched[s] = names
      for i = at + 4, last, 2 do
        log[i] = counter_name(s, log[i])
        names[log[i]] = true
      end
    end
    at = last + 1
  end
  return touched
end

-- The changed threshold sides, channels with equal sides grouped; a channel is given by its index in `used.names`.
local function sides_of(s, used)
  local groups, rows = {}, {}
  for channel in pairs(s.sides or {}) do
    local side = s.modes and s.modes[channel]
    local state, left_at, due = 0, 0, 0
    if side then state, left_at, due = side[1], side[2], side[3] end
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

local SUMS = {'on_hand@', 'committed@', 'locked@', 'damaged@'} -- in the order of WAREHOUSE

-- A SKU's changed fields, new values (tables/ledger/records.py, SkuPatch); `rest`: sums of the other counters.
local function patch_of(s, touched, used)
  local counters, rest = {}, {}
  for name in pairs(touched) do
    local value, index = sku_record.counter(s, name)
    counters[name] = value
    if index then rest[KIND_OF[name]] = (rest[KIND_OF[name]] or 0) - value end
  end
  for i, value in ipairs(sku_record.sums(s)) do rest[SUMS[i]] = (rest[SUMS[i]] or 0) + value end
  for name, value in pairs(s.counters or {}) do
    if not touched[name] then rest[KIND_OF[name]] = (rest[KIND_OF[name]] or 0) + value end
  end
  for kind, value in pairs(rest) do
    if value == 0 then rest[kind] = nil end
  end
  local marks = s.new_marks or {counted = {}, floors = {}}
  return '\154' .. pack(s.sku) .. pack(s.r[SKU.version]) .. pack(s.r[SKU.at]) .. pack(counters) .. pack(s.added or {})
    .. pack(sides_of(s, used)) .. pack(marks.counted) .. pack(marks.floors)
    .. pack(s.carried or {}) .. pack(rest)
end

-- [channel, its group, …] and the publish_interval_ms of each group.
local function packed_channels()
  local groups, channels, intervals = group_channels(), {}, {}
  for i, channel in ipairs(registry.names) do channels[2 * i - 1], channels[2 * i] = channel, groups.of[i] - 1 end
  for i, p in ipairs(groups.policies) do intervals[i] = p.publish_interval_ms or 0 end
  return pack(channels) .. pack(intervals)
end

-- Whole rows up to the limit, patches beyond it and of a SKU in many warehouses: a whole row grows with the number of
-- warehouses and channels, a patch only with what the batch changed. A patched SKU is in the rows by its name: effects
-- refer to each by its place.
local function sku_rows()
  local rows, bytes, patched = {}, 0, nil
  for i, s in ipairs(sku_order) do
    if s.packed and (s.must_be_whole or bytes + #s.packed <= limits.whole_rows_bytes_max) then
      local codes, intervals = packed_offers(s)
      local row = '\148' .. packed_values[s.sku] .. s.packed .. codes .. intervals
      rows[i] = row
      bytes = bytes + #row
      writing.note_whole(s)
    else
      rows[i], patched = pack(s.sku), patched or {}
      patched[#patched + 1], patched[s] = s, true
    end
  end
  local packed = '\147' .. packed_channels() .. packed_array(rows)
  if not patched then return packed end
  local touched, used, patches = name_counters(patched), {names = {}, place = {}}, {}
  for i, s in ipairs(patched) do
    patches[i] = patch_of(s, touched[s] or {}, used)
    writing.note_patched(s)
  end
  return packed, '\146' .. pack(used.names) .. packed_array(patches)
end

-- An outcome's code, doubled, plus 1 for a repeat, plus 128 times the place of its order among the rows plus 1; with a
-- detail an array of both. Orders without a row are given by their id.
local function packed_results(results)
  local list = {}
  for i, result in ipairs(results) do
    local code = 2 * CODES.outcome[result.outcome] + (result.replayed and 1 or 0)
    local o = result.order_id and orders[result.order_id]
    local row = o and o.row
    if row then code = code + 128 * (row + 1) end
    local id = result.order_id and not row and result.order_id or nil
    if id then
      list[i] = {code, result.detail or '', id}
    else
      list[i] = result.detail and {code, result.detail} or code
    end
  end
  return pack(list)
end

-- [kind, id, subject, …]. An order among the rows is given by its place; the id of its placing, which it holds, is 0.
local function packed_causes()
  local list = {}
  for i, cause in ipairs(causes) do
    local kind, id, subject = cause[1], cause[2], cause[3]
    if type(subject) == 'table' then
      if kind == 'place' and subject.r.events[1] == id then id = 0 end
      subject = subject.row or subject.id
    end
    list[3 * i - 2], list[3 * i - 1], list[3 * i] = CODES.cause[kind] or kind, id, subject
  end
  return pack(list)
end

local function packed_log()
  local size = log.size
  log.size = nil -- a field with a name would make it a map
  local packed = pack(log)
  log.size = size
  return packed
end

-- Trailing empty fields are omitted.
function payload.of(batch_number, results)
  local orders_packed = packed_array(order_rows())
  local skus_packed, patches = sku_rows()
  local is_repaired = #repairs.list > 0
  local is_patched, has_moves = patches ~= nil, #moves.list > 0
  local tail, fields = '', 12
  if is_repaired or is_patched or has_moves then tail, fields = is_repaired and repairs.packed() or '\144', 13 end
  if is_patched or has_moves then tail, fields = tail .. (patches or '\144'), 14 end
  if has_moves then tail, fields = tail .. pack(moves.list), 15 end
  return array_header(fields) .. pack(FORMAT) .. pack(batch_number) .. pack(now) .. packed_results(results)
    .. orders_packed .. packed_array(movement_rows()) .. skus_packed .. '\146' .. packed_causes() .. packed_log()
    .. packed_array(policy_rows) .. (registry_changed and packed_registry() or NIL) .. packed_alerts() .. pack(refused)
    .. tail
end

end
