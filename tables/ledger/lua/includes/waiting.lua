-- Parked events: events that arrived before their order, and returns that arrived before their shipment (rule 43). The
-- order's record holds them in `parked` by arrival: each is its command with `bytes` (of the event), `waits_from` and
-- `waits_until` (ms), and `told` after its alert. The record's `wait_at` is when the first is due, for its alert or its
-- end.
-- Key `waiting`, a zset: order_id by parked bytes. Key `waiting_bytes`: their sum; if absent, it is summed again.

local alerts = require('alerts')
local batch = require('batch')
local indexes = require('indexes')
local order_record = require('order_record')
local orders = require('orders')
local refusals = require('refusals')

local waiting = {}

local EVENT_BYTES_MIN = 64 -- the least that an event counts, so that the limit on bytes also bounds the number
-- Channels that may send events ahead of the same order: one of them is its own, the others are mistaken or hostile.
local SENDERS_MAX = 8
-- Events that one tick ends or alerts about: each is an alert, and a dead letter with its bytes.
local TICK_EVENTS_MAX, TICK_BYTES_MAX = 500, 524288
local TYPES = {
  pay = 'order.paid', cancel = 'order.cancelled', extend = 'order.extended', ship = 'order.shipped',
  take_back = 'order.returned', change = 'order.changed',
}
local spent_events, spent_bytes = 0, 0
local stored_bytes, change, must_sum = nil, 0, false -- of `waiting_bytes`
local entries = {add = {}, drop = {}} -- of `waiting`

-- Events parked by an older version end with their record.
local function ends_at(order, each) return each.waits_until or order.record.expires_at or 0 end

local function alert_about(each, type)
  alerts.add(type, nil, {order_id = each.order_id, event_id = each.id, event_type = TYPES[each.kind]})
end

local function add(order, each)
  orders.mark_changed(order)
  local due, alert_at = ends_at(order, each), (each.waits_from or 0) + batch.limits.waiting_alert_ms
  if not each.told then due = math.min(due, alert_at) end
  order.record.parked = order.record.parked or {}
  order.record.parked[#order.record.parked + 1] = each
  order.record.wait_at = math.min(order.record.wait_at or due, due)
  change = change + (each.bytes or 0)
end

-- Remove and return all parked events of an order; the caller adds back those that stay parked.
function waiting.take_all(order)
  orders.mark_changed(order)
  local list = order.record.parked or {}
  change = change - order_record.parked_bytes(order.record)
  order.record.parked, order.record.wait_at = nil, nil
  return list
end

-- Parked bytes of all orders; after a recovery they are summed from the index.
local function total()
  if not stored_bytes then
    local stored = redis.call('GET', KEYS[1] .. 'waiting_bytes')
    if not stored then
      stored = 0
      local scores = redis.call('ZREVRANGE', KEYS[1] .. 'waiting', 0, -1, 'WITHSCORES')
      for i = 2, #scores, 2 do stored = stored + scores[i] end
    end
    stored_bytes = tonumber(stored)
  end
  return stored_bytes + change
end

-- Each channel has room of its own, so that none can take that of the order's.
local function bytes_of_sender(order, channel)
  local bytes = 0
  for _, each in ipairs(order.record.parked or {}) do
    if each.channel == channel then bytes = bytes + (each.bytes or 0) end
  end
  return bytes
end

-- -> a refusal and its reason if there is no room
local function capacity_refusal(order, channel, bytes)
  if bytes > batch.limits.waiting_order_bytes_max then
    return O.TOO_LARGE, 'an event of ' .. bytes .. ' bytes cannot wait for what it needs'
  end
  local limit = batch.limits.waiting_order_bytes_max
  if bytes_of_sender(order, channel) + bytes > limit
    or order_record.parked_bytes(order.record) + bytes > SENDERS_MAX * limit then
    return O.TOO_MANY_EVENTS, 'the events that wait for this order take up all the bytes that they may'
  end
  local is_another = not order.record.parked
    and redis.call('ZCARD', KEYS[1] .. 'waiting') >= batch.limits.waiting_orders_max
  if is_another or total() + bytes > batch.limits.waiting_bytes_max then
    return O.TOO_MANY_EVENTS, 'the events that wait for their orders take up all the room that they may'
  end
end

-- -> outcome, replayed of the parked event with the id of `command`
function waiting.known(order, command)
  for _, each in ipairs(order.record.parked or {}) do
    if each.id == command.id and each.channel == command.channel then
      if each.fingerprint == command.fingerprint then return O.PARKED, true end
      return O.CONFLICT
    end
  end
end

-- Park an event with its order. -> outcome, replayed, nil, why
function waiting.park(order, command)
  if not command.waits_from then
    local bytes = math.max(EVENT_BYTES_MIN, #command.origin[4])
    local refusal, why = capacity_refusal(order, command.channel, bytes)
    if refusal then return refusal, false, nil, why end
    command.bytes, command.waits_from, command.waits_until = bytes, batch.now, batch.now + batch.limits.park_ms
  end
  add(order, command)
  return O.PARKED
end

-- Refuse a parked event with a dead letter and an alert.
function waiting.fail(each, outcome, detail)
  refusals.add(each, outcome, detail)
  alert_about(each, 'wait_failed')
end

local function seconds(each) return math.floor((batch.now - (each.waits_from or batch.now)) / 1000) end

-- After a change of the order, apply the parked events that now can be, and refuse those that never can. A second pass
-- is needed because an applied return may make an earlier one impossible; a third would find nothing.
function waiting.settle(order)
  if not order.record.parked or order.record.state == 'parked' or order.settling then return end
  order.settling = true
  for _ = 1, 2 do
    for _, each in ipairs(waiting.take_all(order)) do require('order_event_dispatch').run(each) end
  end
  order.settling = nil
end

local function end_wait(order, each)
  if not orders.is_placed(order) then
    waiting.fail(each, O.UNKNOWN_ORDER, 'it waited ' .. seconds(each) .. ' s for its order, which did not come')
  else
    waiting.fail(each, O.MORE_THAN_SHIPPED,
      'it waited ' .. seconds(each) .. ' s for a shipment of what it returns, which did not come')
  end
end

-- Alert about long parked events and end those whose time is over. -> whether anything was due
function waiting.tick(order)
  local record = order.record
  local due = record.state == 'parked' and order_record.deadline(record) or record.wait_at
  if not record.parked or batch.now < (due or 0) then return false end
  if spent_events >= TICK_EVENTS_MAX or spent_bytes >= TICK_BYTES_MAX then return false end
  for _, each in ipairs(waiting.take_all(order)) do
    local is_over = batch.now >= ends_at(order, each)
    local is_long = not each.told and batch.now >= (each.waits_from or 0) + batch.limits.waiting_alert_ms
    if is_over then
      end_wait(order, each)
    else
      if is_long then
        each.told = true
        alert_about(each, 'waiting_for_order')
      end
      add(order, each)
    end
    if is_over or is_long then
      spent_events, spent_bytes = spent_events + 1, spent_bytes + (each.bytes or #each.origin[4])
    end
  end
  if record.state == 'parked' then
    if record.expires_at and batch.now >= record.expires_at then record.expires_at = nil end
    if not record.parked then
      order.dropped = true
      orders.known[order.id] = false
    end
  end
  return true
end

-- Note the change of an order's entry in the index.
function waiting.index(order)
  local bytes = order.dropped and 0 or order_record.parked_bytes(order.record)
  if bytes == (order.was_waiting or 0) then return end
  local list = bytes > 0 and entries.add or entries.drop
  if bytes > 0 then list[#list + 1] = bytes end
  list[#list + 1] = order.id
end

-- Let the sum be computed again: a repair changed the index.
function waiting.forget_sum() must_sum = true end

-- `total` reads the index, so the sum is written before it.
batch.writers[#batch.writers + 1] = function()
  if must_sum then
    redis.call('DEL', KEYS[1] .. 'waiting_bytes')
  elseif change ~= 0 then
    redis.call('SET', KEYS[1] .. 'waiting_bytes', math.max(0, total()))
  end
  indexes.write('waiting', entries)
end

return waiting
