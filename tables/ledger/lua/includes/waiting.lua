-- Events that came before what they need wait for it: any event before its order, a return before its shipment
-- (rule 43). They wait in the order's record, as `parked`, in the order in which they came: each is its command, with
-- `bytes` (of the event), `waits_from` and `waits_until` (ms), and `told` once an alert has named it. The record's
-- `wait_at` is when the first of them is due, for that alert or for its end.
-- Key `waiting`, a zset: order_id by the bytes that wait. Key `waiting_bytes`: their sum; absent, it is counted anew.
do
local EVENT_BYTES_MIN = 64 -- what the smallest event counts, so that bytes bound the number, too
-- What one tick ends or tells of: each is an alert, and a dead letter with its bytes.
local TICK_EVENTS_MAX, TICK_BYTES_MAX = 500, 524288
local TYPES = {
  pay = 'order.paid', cancel = 'order.cancelled', extend = 'order.extended', ship = 'order.shipped',
  take_back = 'order.returned',
}
local spent_events, spent_bytes = 0, 0

function waiting.bytes(r)
  if not r.parked then return 0 end
  local bytes = 0
  for _, each in ipairs(r.parked) do bytes = bytes + (each.bytes or 0) end
  return bytes
end

-- When the expiry step has to look at the order.
function waiting.deadline(r)
  local at, ends = r.wait_at, r.expires_at
  return at and ends and math.min(at, ends) or at or ends
end

-- What an earlier version parked ends with its record.
local function ends_at(o, each) return each.waits_until or o.r.expires_at or 0 end

local function alert_about(each, type)
  alert(type, nil, {order_id = each.order_id, event_id = each.id, event_type = TYPES[each.kind]})
end

local function add(o, each)
  changing(o)
  local due, tell = ends_at(o, each), (each.waits_from or 0) + limits.waiting_alert_ms
  if not each.told then due = math.min(due, tell) end
  o.r.parked = o.r.parked or {}
  o.r.parked[#o.r.parked + 1] = each
  o.r.wait_at = math.min(o.r.wait_at or due, due)
  waiting.delta = waiting.delta + (each.bytes or 0)
end

-- Take all that wait with an order; those that go on waiting are added again.
function waiting.take_all(o)
  changing(o)
  local list = o.r.parked or {}
  waiting.delta = waiting.delta - waiting.bytes(o.r)
  o.r.parked, o.r.wait_at = nil, nil
  return list
end

-- Bytes that wait with all orders; a recovery leaves the sum to be counted.
local function total()
  if not waiting.stored then
    local stored = redis.call('GET', KEYS[1] .. 'waiting_bytes')
    if not stored then
      stored = 0
      local scores = redis.call('ZREVRANGE', KEYS[1] .. 'waiting', 0, -1, 'WITHSCORES')
      for i = 2, #scores, 2 do stored = stored + scores[i] end
    end
    waiting.stored = tonumber(stored)
  end
  return waiting.stored + waiting.delta
end

-- -> a refusal and why, where there is no room
local function no_room(o, bytes)
  if bytes > limits.waiting_order_bytes_max then
    return O.TOO_LARGE, 'an event of ' .. bytes .. ' bytes cannot wait for what it needs'
  end
  if waiting.bytes(o.r) + bytes > limits.waiting_order_bytes_max then
    return O.TOO_MANY_EVENTS, 'the events that wait for this order take up all the bytes that they may'
  end
  local is_another = not o.r.parked and redis.call('ZCARD', KEYS[1] .. 'waiting') >= limits.waiting_orders_max
  if is_another or total() + bytes > limits.waiting_bytes_max then
    return O.TOO_MANY_EVENTS, 'the events that wait for their orders take up all the room that they may'
  end
end

-- Whether an event waits under the id of `cmd`. -> outcome, replayed
function waiting.known(o, cmd)
  for _, each in ipairs(o.r.parked or {}) do
    if each.id == cmd.id then
      if each.fingerprint == cmd.fingerprint then return O.PARKED, true end
      return O.CONFLICT
    end
  end
end

-- Let an event wait with `o`. -> outcome, replayed, nil, why
function waiting.park(o, cmd)
  if not cmd.waits_from then
    local bytes = math.max(EVENT_BYTES_MIN, #cmd.origin[4])
    local refusal, why = no_room(o, bytes)
    if refusal then return refusal, false, nil, why end
    cmd.bytes, cmd.waits_from, cmd.waits_until = bytes, now, now + limits.park_ms
  end
  add(o, cmd)
  return O.PARKED
end

-- What is told of an event that waited in vain.
function waiting.fail(each, outcome, detail)
  refuse(each, outcome, detail)
  alert_about(each, 'wait_failed')
end

function waiting.seconds(each) return math.floor((now - (each.waits_from or now)) / 1000) end

-- The order has changed: apply what can be applied now, refuse what never can. A return that is applied may make one
-- before it impossible, so there is a second pass; a third would find nothing.
function waiting.settle(o)
  if not o.r.parked or o.r.state == 'parked' or o.settling then return end
  o.settling = true
  for _ = 1, 2 do
    for _, each in ipairs(waiting.take_all(o)) do waiting.apply(each) end
  end
  o.settling = nil
end

local function end_wait(o, each)
  if o.r.state == 'parked' then
    waiting.fail(each, O.UNKNOWN_ORDER, 'it waited ' .. waiting.seconds(each) .. ' s for its order, which did not come')
  else
    waiting.fail(each, O.MORE_THAN_SHIPPED,
      'it waited ' .. waiting.seconds(each) .. ' s for a shipment of what it returns, which did not come')
  end
end

-- Tell of events that have waited long, and end the wait of those whose time is over. -> whether anything was due
function waiting.tick(o)
  local r = o.r
  local due = r.state == 'parked' and waiting.deadline(r) or r.wait_at
  if not r.parked or now < (due or 0) then return false end
  if spent_events >= TICK_EVENTS_MAX or spent_bytes >= TICK_BYTES_MAX then return false end
  for _, each in ipairs(waiting.take_all(o)) do
    local is_over = now >= ends_at(o, each)
    local is_long = not each.told and now >= (each.waits_from or 0) + limits.waiting_alert_ms
    if is_over then
      end_wait(o, each)
    else
      if is_long then
        each.told = true
        alert_about(each, 'waiting_for_order')
      end
      add(o, each)
    end
    if is_over or is_long then
      spent_events, spent_bytes = spent_events + 1, spent_bytes + (each.bytes or #each.origin[4])
    end
  end
  if r.state == 'parked' then
    if r.expires_at and now >= r.expires_at then r.expires_at = nil end
    if not r.parked then
      o.dropped = true
      orders[o.id] = false
    end
  end
  return true
end

-- Note in `lists` what of the index changes with an order.
function waiting.index(o, lists)
  local bytes = o.dropped and 0 or waiting.bytes(o.r)
  if bytes == (o.was_waiting or 0) then return end
  if bytes > 0 then
    lists.add[#lists.add + 1], lists.add[#lists.add + 2] = bytes, o.id
  else
    lists.drop[#lists.drop + 1] = o.id
  end
end

-- Before the index is written.
function waiting.write_total()
  if waiting.is_unsure then
    redis.call('DEL', KEYS[1] .. 'waiting_bytes')
  elseif waiting.delta ~= 0 then
    redis.call('SET', KEYS[1] .. 'waiting_bytes', math.max(0, total()))
  end
end
end
