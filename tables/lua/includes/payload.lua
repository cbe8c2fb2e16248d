-- The payload of a batch: msgpack of tables/records.py, Decision.
local FORMAT = 1
local ORDERS_AT_RISK_MAX = 100 -- named in one shortfall; the newest promises first
local TRUE, FALSE, NIL = '\195', '\194', '\192'

-- Rule 34: who is at risk where a warehouse has less than it promised.
local function name_orders_at_risk()
  for _, a in ipairs(alerts) do
    if a.type == 'shortfall' then
      local at_risk = {}
      for _, id in ipairs(redis.call('ZREVRANGE', KEYS[1] .. 'held:' .. a.sku, 0, ORDERS_AT_RISK_MAX - 1)) do
        local o = get_order(id)
        for _, line in ipairs(o and o.r.lines or {}) do
          if line.sku == a.sku and line.warehouses and line.warehouses[a.warehouse] then at_risk[#at_risk + 1] = id end
        end
      end
      a.orders = #at_risk > 0 and at_risk or nil
    end
  end
end

local GONE = pack({state = 'parked'}) -- parked events whose time is over: nothing is parked here any more

-- Parked events are among the rows too: their input was committed, so only the journal can bring them back.
local function order_rows()
  local rows = {}
  local function add(o)
    if o.replaced or o.in_payload or not (o.packed or o.dropped) then return end
    if o.dropped and orders[o.id] then return end -- another one took its place since
    o.in_payload = true
    local row = o.dropped and GONE or o.packed
    rows[#rows + 1] = '\147' .. pack(o.id) .. row .. ((o.changed or o.restated) and TRUE or FALSE)
  end
  for _, o in ipairs(orders_asked) do add(o) end
  for _, o in ipairs(orders_changed) do add(o) end
  for _, o in ipairs(orders_restated) do add(o) end
  return rows
end

local function payload_of(batch, results)
  name_orders_at_risk()
  local movement_rows, sku_rows = {}, {}
  for _, m in ipairs(movements_asked) do
    if not m.in_payload then
      m.in_payload = true
      movement_rows[#movement_rows + 1] = '\148' .. pack(m.warehouse) .. pack(m.id) .. m.packed
        .. (m.changed and TRUE or FALSE)
    end
  end
  for i, s in ipairs(sku_order) do
    s.r.modes, s.r.policies, s.r.counters = s.r.modes or {}, s.r.policies or {}, s.r.counters or {}
    s.r.warehouses = s.r.warehouses or {}
    sku_rows[i] = '\147' .. pack(s.sku) .. s.packed .. packed_offers(s)
  end
  local header = #mending.repairs > 0 and '\157' or '\156' -- the last field is left out where nothing was repaired
  return header .. pack(FORMAT) .. pack(batch) .. pack(now) .. pack(results) .. packed_array(order_rows())
    .. packed_array(movement_rows) .. packed_array(sku_rows) .. pack(effects) .. packed_array(policy_rows)
    .. (registry_changed and packed_registry() or NIL) .. pack(alerts) .. pack(refused)
    .. (#mending.repairs > 0 and mending.packed() or '')
end
