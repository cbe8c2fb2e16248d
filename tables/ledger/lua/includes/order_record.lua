-- The stored form of an order (tables/ledger/packed.py, _PackedOrder). Format 2 is msgpack [2, state, channel,
-- sequence, placed_at, expires_in, ended_in, fingerprint, outcome, events, lines, rest]:
--   expires_in, ended_in   ms after placed_at, plus 1; 0: none
--   events   0: none; 1: the placing with its default id; else as in format 1, '' for the order's own fingerprint
--   lines    [sku, quantity, state, reserved, preordered, shipped, returned, cancelled, reason, {warehouse: units},
--            short, {<purpose>@<warehouse>: units from pools}, [promised_at, first_promised_at, slips]]; of the last
--            four, empty ones at the end are left out
--   rest     0, or a map of the rare fields
-- States and outcomes are codes (tables/ledger/codes.py). Format 1 is a map of tables/ledger/records.py, OrderRecord.
-- Both are read; format 2 is written. In memory an order's record has named fields.

local codes = require('codes')
local msgpack = require('msgpack')
local pack, values, string_headers = cmsgpack.pack, msgpack.values, msgpack.string_headers

local order_record = {}

local HEADER = MSGPACK.ARRAY_12 .. MSGPACK.TWO
local PLACED_ID = 'placed' -- tables/ledger/commands.py, PLACED_ID_DEFAULT
local STATE, OUTCOME = codes.state, codes.outcome
local RARE = {
  'region', 'purpose', 'event_digests', 'extensions', 'parked', 'wait_at', 'queued', 'no_preorder', 'approval',
  'held_back', 'passed_over', 'choice_due', 'buyer', 'bounded',
  'removed_ahead',
}

local function pack_events(record)
  local events = record.events
  local count = events and #events or 0
  if count == 0 then return MSGPACK.ZERO end
  if count == 2 and events[1] == PLACED_ID and events[2] == record.fingerprint then return MSGPACK.ONE end
  local own = record.fingerprint
  local parts = {msgpack.array_header(count)}
  for i = 1, count do parts[i + 1] = events[i] == own and i % 2 == 0 and MSGPACK.STRING_0 or pack(events[i]) end
  return table.concat(parts)
end

local function pack_warehouses(warehouses)
  local warehouse, units = next(warehouses)
  if next(warehouses, warehouse) == nil then return MSGPACK.MAP_1 .. values[warehouse] .. values[units] end
  return pack(warehouses)
end

local function pack_line(line)
  local state, reason, places, header = line.state, line.reason or '', '', MSGPACK.ARRAY_9
  if line.pools or line.short or line.first_promised_at then
    places = (line.warehouses and pack_warehouses(line.warehouses) or MSGPACK.MAP_0) .. values[line.short or 0]
    header = MSGPACK.ARRAY_11
    if line.first_promised_at then
      local promise = pack({line.promised_at or 0, line.first_promised_at, line.slips or 0})
      places, header = places .. (line.pools and pack(line.pools) or MSGPACK.MAP_0) .. promise, MSGPACK.ARRAY_13
    elseif line.pools then
      places, header = places .. pack(line.pools), MSGPACK.ARRAY_12
    end
  elseif line.warehouses then
    places, header = pack_warehouses(line.warehouses), MSGPACK.ARRAY_10
  end
  return header .. values[line.sku] .. values[line.quantity] .. values[STATE[state] or state]
    .. values[line.reserved or 0] .. values[line.preordered or 0] .. values[line.shipped or 0]
    .. values[line.returned or 0] .. values[line.cancelled or 0] .. values[OUTCOME[reason] or reason] .. places
end

local function pack_lines(lines)
  if #lines == 1 then return MSGPACK.ARRAY_1 .. pack_line(lines[1]) end
  local parts = {msgpack.array_header(#lines)}
  for i, line in ipairs(lines) do parts[i + 1] = pack_line(line) end
  return table.concat(parts)
end

local function pack_rest(record)
  if not (record.region or record.purpose or record.event_digests or record.extensions or record.parked
    or record.wait_at or record.queued or record.no_preorder or record.priority or record.approval
    or record.held_back or record.choice_due or record.buyer or record.bounded
    or record.removed_ahead) then
    return MSGPACK.ZERO
  end
  local rest
  for i = 1, #RARE do
    local value = record[RARE[i]]
    if value ~= nil then
      rest = rest or {}
      rest[RARE[i]] = value
    end
  end
  if record.priority and record.priority ~= 'standard' then
    rest = rest or {}
    rest.priority = record.priority
  end
  return rest and pack(rest) or MSGPACK.ZERO
end

local function offset_from(at, from) return at and at - from + 1 or 0 end

function order_record.pack(record)
  local placed_at, fingerprint = record.placed_at or 0, record.fingerprint or ''
  local state, outcome = record.state, record.outcome or ''
  return HEADER .. values[STATE[state] or state] .. values[record.channel or ''] .. values[record.sequence or 0]
    .. values[placed_at] .. values[offset_from(record.expires_at, placed_at)]
    .. values[offset_from(record.ended_at, placed_at)]
    .. string_headers[#fingerprint] .. fingerprint .. values[OUTCOME[outcome] or outcome] .. pack_events(record)
    .. pack_lines(record.lines or {}) .. pack_rest(record)
end

-- When the expiry step must process the order.
function order_record.deadline(record)
  local at, ends = record.wait_at, record.expires_at
  return at and ends and math.min(at, ends) or at or ends
end

-- The bytes of its parked events (waiting.lua).
function order_record.parked_bytes(record)
  if not record.parked then return 0 end
  local bytes = 0
  for _, each in ipairs(record.parked) do bytes = bytes + (each.bytes or 0) end
  return bytes
end

local words -- of codes; records are rarely read in a batch of new orders

local function not_zero(value) return value ~= 0 and value or nil end

local function unpack_line(each)
  local pools, promise = each[12], each[13]
  local line = {
    sku = each[1], quantity = each[2], state = words.state[each[3]] or each[3], reserved = not_zero(each[4]),
    preordered = not_zero(each[5]), shipped = not_zero(each[6]), returned = not_zero(each[7]),
    cancelled = not_zero(each[8]), reason = words.outcome[each[9]] or each[9] ~= '' and each[9] or nil,
    warehouses = each[10] and (not each[11] or next(each[10]) ~= nil) and each[10] or nil, short = not_zero(each[11]),
    pools = pools and next(pools) ~= nil and pools or nil,
  }
  if promise then
    line.promised_at, line.first_promised_at, line.slips = not_zero(promise[1]), promise[2], not_zero(promise[3])
  end
  return line
end

local function unpack_events(events, fingerprint)
  if events == 0 then return {} end
  if events == 1 then return {PLACED_ID, fingerprint} end
  for i = 2, #events, 2 do
    if events[i] == '' then events[i] = fingerprint end
  end
  return events
end

-- -> a record by field names
function order_record.unpack(packed)
  words = words or require('words')
  if string.sub(packed, 1, 2) ~= HEADER then
    local record = cmsgpack.unpack(packed)
    if record[1] then error('an order of format ' .. tostring(record[1])) end
    record.lines, record.events = record.lines or {}, record.events or {}
    return record
  end
  local _, state, channel, sequence, placed_at, expires_in, ended_in, fingerprint, outcome, events, lines, rest
    = cmsgpack.unpack_limit(packed, 11, 2)
  for i, each in ipairs(lines) do lines[i] = unpack_line(each) end
  local record = rest ~= 0 and rest or {}
  record.state, record.channel, record.sequence = words.state[state] or state, channel, sequence
  record.placed_at = placed_at
  record.expires_at = expires_in ~= 0 and placed_at + expires_in - 1 or nil
  record.ended_at = ended_in ~= 0 and placed_at + ended_in - 1 or nil
  record.fingerprint, record.outcome = fingerprint, words.outcome[outcome] or outcome
  record.lines, record.events = lines, unpack_events(events, fingerprint)
  return record
end

return order_record
