-- place {order_id, channel, lines, fingerprint, hold_ms, priority, accept, allow_preorder, supersedes, …}
-- A line is reserved whole, preordered whole, or refused with one reason; it is never split (rules 7, 11-13, 21).

local batch = require('batch')
local draw = require('draw')
local modes = require('modes')
local offer = require('offer')
local orders = require('orders')
local registry = require('registry')
local skus = require('skus')

-- Its row holds it twice in JSON and must fit into a record of 4 MiB, with room for later events.
local ORDER_BYTES_MAX = 1048576
local LINE_BYTES = 64 -- of a line without its names

local NONE = {}

-- -> 'reserve', draws | 'preorder' | nil, reason
local function plan_line(cmd, sku, n)
  local s = skus.get(sku)
  if not s then return nil, O.UNKNOWN_SKU end
  local p = registry.policy_of(s, cmd.channel)
  if cmd.priority == 'vip' and offer.available_of(s, p) >= n then
    local draws = draw.plan(s, p, n)
    if draws then return 'reserve', draws end
  end
  local mode, quantity, remaining = offer.of(s, cmd.channel, p)
  if mode == 'in_stock' then
    local draws = n <= quantity and draw.plan(s, p, n)
    if draws then return 'reserve', draws end
    return nil, O.INSUFFICIENT_STOCK
  end
  if mode == 'suspended' then return nil, O.CHANNEL_SUSPENDED end
  if p.below_threshold ~= 'preorder' or p.preorder_cap == 0 or cmd.allow_preorder == false then
    return nil, O.INSUFFICIENT_STOCK
  end
  if n > remaining then return nil, O.PREORDER_CAP_REACHED end
  return 'preorder'
end

local function hold_line(o, line, kind, draws, cause)
  local s = skus.get(line.sku)
  skus.begin(s)
  if kind == 'preorder' then
    skus.change(s, 'preordered', o.r.channel, line.quantity)
    line.preordered, line.state = line.quantity, 'preordered'
  else
    local names = s.places.names
    for i = 1, #draws, 2 do
      skus.change_at(s, draws[i], WAREHOUSE.locked, draws[i + 1])
      orders.put_units(line, names[(draws[i] - WAREHOUSE.first) / WAREHOUSE.size + 1], draws[i + 1])
    end
    line.state = 'reserved'
  end
  modes.finish(s, cause)
end

local function new_order(cmd)
  -- With room for the fields that the batch adds, here and below.
  local o = {
    id = cmd.order_id, changed = true, was_held = NONE, included = nil, packed = nil, in_payload = nil, row = nil,
  }
  o.r = {
    state = 'rejected', channel = cmd.channel, sequence = 1, placed_at = batch.now, fingerprint = cmd.fingerprint,
    region = cmd.region, purpose = cmd.purpose, lines = {}, events = {cmd.id, cmd.fingerprint},
    priority = cmd.priority ~= 'standard' and cmd.priority or nil,
  }
  for i, line in ipairs(cmd.lines) do
    o.r.lines[i] = {
      sku = line[1], quantity = line[2], state = 'rejected', reserved = nil, warehouses = nil, reason = nil,
    }
  end
  return o
end

-- The approximate size of the order's record if it is held as planned: it may draw on many warehouses with long names.
local function planned_bytes(o, plans)
  local bytes = 0
  for i, line in ipairs(o.r.lines) do
    bytes = bytes + #line.sku + LINE_BYTES
    if plans[i][1] == 'reserve' then
      local names, draws = skus.get(line.sku).places.names, plans[i][2]
      for d = 1, #draws, 2 do bytes = bytes + #names[(draws[d] - WAREHOUSE.first) / WAREHOUSE.size + 1] + 8 end
    end
  end
  return bytes
end

-- Decide each line and hold the accepted ones. -> the order's outcome
local function decide(o, cmd)
  local plans, first_reason, held, reserved = {}, nil, 0, 0
  for i, line in ipairs(o.r.lines) do
    local kind, detail = plan_line(cmd, line.sku, line.quantity)
    plans[i] = {kind, detail}
    if kind then
      held = held + 1
    else
      line.reason = detail
      first_reason = first_reason or detail
    end
  end
  if held == 0 or (first_reason and cmd.accept ~= 'partial') then return first_reason end
  if planned_bytes(o, plans) > ORDER_BYTES_MAX then
    for _, line in ipairs(o.r.lines) do line.reason = O.TOO_LARGE end
    return O.TOO_LARGE
  end
  local cause = {'place', cmd.id, o, nil}
  for i, line in ipairs(o.r.lines) do
    if plans[i][1] then
      hold_line(o, line, plans[i][1], plans[i][2], cause)
      if plans[i][1] == 'reserve' then reserved = reserved + 1 end
    end
  end
  o.r.state, o.r.expires_at = 'reserved', batch.now + (cmd.hold_ms or 900000)
  return first_reason and O.PARTIAL or (reserved > 0 and O.RESERVED or O.PREORDERED)
end

return {new_order = new_order, decide = decide}
