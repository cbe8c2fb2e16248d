-- The payload of a batch (tables/ledger/raw_decision.py, _PackedDecision).

local alerts = require('alerts')
local batch = require('batch')
local codes = require('codes')
local movements = require('movements')
local msgpack = require('msgpack')
local offer = require('offer')
local order_record = require('order_record')
local orders = require('orders')
local refusals = require('refusals')
local registry = require('registry')
local sku_record = require('sku_record')
local skus = require('skus')
local write = require('write')

local pack, string_headers, log = cmsgpack.pack, msgpack.string_headers, skus.log

local FORMAT = 2

local ORDERS_AT_RISK_MAX = 100 -- named in one shortfall, newest holds first
local ORDERS_READ_MAX = 1000 -- read for all shortfalls of a batch
local ALERT_BYTES_MAX = 1048576 -- each alert becomes a row, and a batch can cross the thresholds of all channels

-- Rule 34: add the affected orders to each shortfall of a warehouse.
local function name_orders_at_risk()
  local left = ORDERS_READ_MAX
  for _, alert in ipairs(alerts.list) do
    if alert.type == 'shortfall' and left > 0 then
      local at_risk = {}
      local ids = redis.call('ZREVRANGE', KEYS[1] .. 'held:' .. alert.sku, 0, math.min(left, ORDERS_AT_RISK_MAX) - 1)
      left = left - #ids
      for _, id in ipairs(ids) do
        local order = orders.get(id)
        for _, line in ipairs(order and order.record.lines or {}) do
          local held = line.warehouses and line.warehouses[alert.warehouse]
          if held and line.sku == alert.sku then at_risk[#at_risk + 1] = id end
        end
      end
      alert.orders = #at_risk > 0 and at_risk or nil
    end
  end
end

-- Alerts up to ALERT_BYTES_MAX, mode switches of channels last; one more alert counts those that are omitted.
local function packed_alerts()
  name_orders_at_risk()
  local rows, bytes, omitted = {}, 0, 0
  for _, is_switch in ipairs({false, true}) do
    for _, alert in ipairs(alerts.list) do
      if (alert.type == 'low_stock') == is_switch then
        local row = bytes < ALERT_BYTES_MAX and pack(alert)
        if row then
          rows[#rows + 1], bytes = row, bytes + #row
        else
          omitted = omitted + 1
        end
      end
    end
  end
  if omitted > 0 then rows[#rows + 1] = pack({type = 'alerts_omitted', quantity = omitted}) end
  return msgpack.array(rows)
end

-- Parked events are rows too: their input is committed, so only the journal can restore them.
local function order_rows()
  local rows = {}
  local function add(order)
    if order.replaced or order.in_payload or not (order.packed or order.dropped) then return end
    if order.dropped and orders.known[order.id] then return end -- replaced by a newer one
    order.in_payload, order.row = true, #rows
    local row = order.packed
    if order.dropped then row = order_record.pack({state = 'parked'}) end -- its parked events have ended
    local is_new = order.changed or order.restated
    rows[#rows + 1] = (order.repromised and MSGPACK.ARRAY_4 or MSGPACK.ARRAY_3) .. string_headers[#order.id] .. order.id
      .. row .. (is_new and MSGPACK.TRUE or MSGPACK.FALSE) .. (order.repromised and MSGPACK.TRUE or '')
  end
  for i = 1, #orders.included do add(orders.included[i]) end
  for i = 1, #orders.changed do add(orders.changed[i]) end
  for i = 1, #orders.restated do add(orders.restated[i]) end
  return rows
end

local function movement_rows()
  local rows = {}
  for _, movement in ipairs(movements.included) do
    if not movement.in_payload then
      movement.in_payload = true
      rows[#rows + 1] = MSGPACK.ARRAY_4 .. pack(movement.warehouse) .. pack(movement.id) .. movement.packed
        .. (movement.changed and MSGPACK.TRUE or MSGPACK.FALSE)
    end
  end
  return rows
end

-- By SKU, the counters in this batch's effects, which get their names: a patch has no list of warehouses.
local function name_counters(patched)
  local touched, at = {}, 1
  while at < log.size do
    local sku, last = skus.changed[log[at] + 1], at + 3 + 2 * log[at + 3]
    if patched[sku] then
      local names = touched[sku] or {}
      touched[sku] = names
      for i = at + 4, last, 2 do
        log[i] = skus.counter_name(sku, log[i])
        names[log[i]] = true
      end
    end
    at = last + 1
  end
  return touched
end

-- The changed threshold sides, channels with equal sides grouped; a channel is given by its index in `used.names`.
local function sides_of(sku, used)
  local groups, rows = {}, {}
  for channel in pairs(sku.sides or {}) do
    local side = sku.modes and sku.modes[channel]
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

-- A SKU's changed fields, new values (tables/ledger/records.py, SkuPatch); `rest`: sums of the other counters.
local function patch_of(sku, touched, used)
  local counters, rest = {}, {}
  for name in pairs(touched) do
    local value, index = sku_record.counter(sku, name)
    counters[name] = value
    if index then rest[KIND_OF[name]] = (rest[KIND_OF[name]] or 0) - value end
  end
  for i, value in ipairs(sku_record.sums(sku)) do
    local kind = skus.KIND_NAMES[i]
    rest[kind] = (rest[kind] or 0) + value
  end
  for name, value in pairs(sku.counters or {}) do
    if not touched[name] then rest[KIND_OF[name]] = (rest[KIND_OF[name]] or 0) + value end
  end
  for kind, value in pairs(rest) do
    if value == 0 then rest[kind] = nil end
  end
  local marks = sku.new_marks or {counted = {}, floors = {}}
  local promises = MSGPACK.NIL
  if sku.promises_changed then promises = MSGPACK.ARRAY_2 .. pack(sku.announced or {}) .. pack(sku.promise_pass) end
  return MSGPACK.ARRAY_12 .. pack(sku.name) .. pack(sku.numbers[SKU.version]) .. pack(sku.numbers[SKU.at])
    .. pack(counters) .. pack(sku.added or {}) .. pack(sides_of(sku, used)) .. pack(marks.counted) .. pack(marks.floors)
    .. pack(sku.carried or {}) .. pack(rest) .. pack(sku.new_pool_times or {}) .. promises
end

-- [channel, its group, …] and the publish_interval_ms of each group.
local function packed_channels()
  local groups, channels, intervals = registry.groups(), {}, {}
  for i, channel in ipairs(registry.names) do channels[2 * i - 1], channels[2 * i] = channel, groups.of[i] - 1 end
  for i, policy in ipairs(groups.policies) do intervals[i] = policy.publish_interval_ms or 0 end
  return pack(channels) .. pack(intervals)
end

-- Whole rows up to the limit, patches beyond it and of a SKU in many warehouses: a whole row grows with the number of
-- warehouses and channels, a patch only with what the batch changed. A patched SKU is in the rows by its name: effects
-- refer to each by its place.
local function sku_rows()
  local rows, bytes, patched = {}, 0, nil
  for i = 1, #skus.changed do
    local sku = skus.changed[i]
    if sku.packed and (sku.must_be_whole or bytes + #sku.packed <= batch.limits.whole_rows_bytes_max) then
      local offers, intervals = offer.packed(sku)
      local row = string_headers[#sku.name] .. sku.name .. sku.packed .. offers .. intervals
      row = sku.announced and MSGPACK.ARRAY_5 .. row .. offer.packed_dates(sku) or MSGPACK.ARRAY_4 .. row
      rows[i] = row
      bytes = bytes + #row
      write.note_whole(sku)
    else
      rows[i], patched = pack(sku.name), patched or {}
      patched[#patched + 1], patched[sku] = sku, true
    end
  end
  local packed = MSGPACK.ARRAY_3 .. packed_channels() .. msgpack.array(rows)
  if not patched then return packed end
  local touched, used, patches = name_counters(patched), {names = {}, place = {}}, {}
  for i, sku in ipairs(patched) do
    patches[i] = patch_of(sku, touched[sku] or {}, used)
    write.note_patched(sku)
  end
  return packed, MSGPACK.ARRAY_2 .. pack(used.names) .. msgpack.array(patches)
end

-- An outcome's code, doubled, plus 1 for a repeat, plus 128 times the place of its order among the rows plus 1; with a
-- detail an array of both. Orders without a row are given by their id; the reasons against lines follow it.
local function packed_results(results)
  local list, outcomes, known = {}, codes.outcome, orders.known
  for i = 1, #results do
    local result = results[i]
    local code, id = 2 * outcomes[result.outcome] + (result.replayed and 1 or 0), result.order_id
    local order = id and known[id]
    if order and order.row then code, id = code + 128 * (order.row + 1), nil end
    if id or result.reasons then
      list[i] = {code, result.detail or '', id or '', result.reasons}
    else
      list[i] = result.detail and {code, result.detail} or code
    end
  end
  return pack(list)
end

-- [kind, id, subject, …]. An order among the rows is given by its place; the id of its placing, which it holds, is 0.
local function packed_causes()
  local list = {}
  for i = 1, #skus.causes do
    local cause = skus.causes[i]
    local kind, id, subject = cause[1], cause[2], cause[3]
    if type(subject) == 'table' then
      if kind == 'place' and subject.record.events[1] == id then id = 0 end
      subject = subject.row or subject.id
    end
    list[3 * i - 2], list[3 * i - 1], list[3 * i] = codes.cause[kind] or kind, id, subject
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
local function of(batch_number, results)
  local orders_packed = msgpack.array(order_rows())
  local skus_packed, patches = sku_rows()
  local is_repaired = #batch.repairs > 0
  local is_patched, has_moves = patches ~= nil, #batch.moves > 0
  local tail, fields = '', 12
  local has_actions = #batch.actions > 0
  if is_repaired or is_patched or has_moves or has_actions then
    tail, fields = is_repaired and require('repair').packed() or MSGPACK.ARRAY_0, 13
  end
  if is_patched or has_moves or has_actions then tail, fields = tail .. (patches or MSGPACK.ARRAY_0), 14 end
  if has_moves or has_actions then tail, fields = tail .. pack(batch.moves), 15 end
  if has_actions then tail, fields = tail .. pack(batch.actions), 16 end
  return msgpack.array_header(fields) .. pack(FORMAT) .. pack(batch_number) .. pack(batch.now)
    .. packed_results(results) .. orders_packed .. msgpack.array(movement_rows()) .. skus_packed
    .. MSGPACK.ARRAY_2 .. packed_causes() .. packed_log() .. msgpack.array(registry.policy_rows)
    .. (registry.changed and registry.packed() or MSGPACK.NIL) .. packed_alerts() .. pack(refusals.list) .. tail
end

return {of = of}
