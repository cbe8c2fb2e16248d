-- tick {orders_max}: what became due by the ledger's time; any worker may run it, atomicity makes a leader unnecessary.
local function drop_parked(o)
  changing(o)
  for _, waiting in ipairs(o.r.parked) do refuse(waiting, O.UNKNOWN_ORDER, 'no order came in time') end
  o.dropped = true
  orders[o.id] = false
end

local function tick(cmd)
  local due = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'deadlines', '-inf', now, 'LIMIT', 0, cmd.orders_max)
  local ended = 0
  fetch_orders(due)
  for _, id in ipairs(due) do
    local o = get_order(id)
    if o and o.r.expires_at and now >= o.r.expires_at then
      if o.r.state == 'parked' then
        drop_parked(o)
      else
        expire_if_due(o)
        asked(o)
      end
      ended = ended + 1
    end
  end
  local waiting = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'dwells', '-inf', now, 'LIMIT', 0, cmd.orders_max)
  fetch_skus(waiting)
  for _, sku in ipairs(waiting) do
    local s = get_sku(sku)
    if s then s.waits = true end
    if s and dwell_over(s) then
      touch(s, {'dwell', '', sku})
    elseif s then
      note_dwells(s)
    end
    ended = ended + 1
  end
  if ended == 0 then return {outcome = O.NOTHING_DUE} end
  return {outcome = O.EXPIRED}
end

local function run(cmd, batch)
  local kind = cmd.kind
  if kind == 'place' then return place(cmd) end
  if ORDER_EVENTS[kind] then return on_order_event(cmd) end
  if MOVEMENTS[kind] then return on_movement(cmd) end
  if kind == 'tick' then return tick(cmd) end
  if kind == 'sweep' then return {outcome = sweep(cmd.skus_max) and O.SWEPT or O.NOTHING_DUE} end
  if kind == 'set_policy' then return set_policy(cmd) end
  if kind == 'delete_policy' then return delete_policy(cmd) end
  if kind == 'know_channel' then return {outcome = O.CHANNEL_KNOWN, replayed = not know(cmd.channel) or nil} end
  if kind == 'restate' then return restate(cmd, batch) end
  if kind == 'repair' then return mending.repair(cmd) end
  error('unknown command kind ' .. tostring(kind))
end
