-- The side of the threshold that each channel is on, stored in the SKU: leaving `in_stock` is immediate, coming back
-- waits for the resume threshold and the dwell (rules 4, 7, 8, 9).
local alerts, effects, dwells_due = {}, {}, {}

local function alert(type, s, fields)
  fields.type, fields.sku = type, s and s.sku or nil
  alerts[#alerts + 1] = fields
end

-- The channels whose side goes into the patch (includes/payload.lua).
local function note_side(s, channel)
  s.sides = s.sides or {}
  s.sides[channel] = true
end

-- Units available under a policy before the current change.
local function available_before(s, p)
  if not p.warehouses then return s.sum_was end
  local sum = 0
  for _, w in ipairs(p.warehouses) do sum = sum + (s.was[w] or s.free[w] or 0) end
  return sum
end

local function leave(s, channel, p, available, never_was)
  note_side(s, channel)
  s.r.modes[channel] = {below = true, left_at = not never_was and now or nil}
  if available <= p.safety_threshold and p.safety_threshold > 0 and not never_was then
    alert('low_stock', s, {channel = channel, quantity = available})
  end
end

local function return_to_stock(s, channel, p, side, waived)
  note_side(s, channel)
  local due = (side.left_at or 0) + p.dwell_seconds * 1000
  if not side.left_at or waived or now >= due then
    s.r.modes[channel] = nil
  else
    side.due = due
  end
end

-- The index of dwells holds a SKU once, at the earliest end among its channels.
local function note_dwells(s)
  local first = false
  for _, side in pairs(s.r.modes) do
    if side.due and (not first or side.due < first) then first = side.due end
  end
  if first or s.waits then dwells_due[s.sku] = first end
  s.waits = first
end

-- Set the side of every known channel for the current stock. `waived`: channels without a dwell.
local function evaluate(s, waived)
  if #s.r.warehouses == 0 then return end
  local evaluated, available, offered
  for _, channel in ipairs(registry.names) do
    local p = policy_of(s, channel)
    if p ~= evaluated then
      evaluated, available = p, available_of(s, p)
      offered = offered_of(s, p, available)
    end
    local side = s.r.modes[channel]
    if not side then
      if falls_below(p, available, offered) then
        leave(s, channel, p, available, s.starting or registry.fresh[channel])
      elseif available <= p.safety_threshold and available_before(s, p) > p.safety_threshold then
        alert('low_stock', s, {channel = channel, quantity = available})
      end
    elseif comes_back(p, available, offered) then
      return_to_stock(s, channel, p, side, waived and waived[channel])
    elseif side.due then
      note_side(s, channel)
      side.due = nil
    end
  end
  s.starting = nil
  note_dwells(s)
end

-- Rule 47: alert for each counter of physical units that is negative and fell.
local PHYSICAL = {on_hand = 'on_hand_negative', damaged = 'damaged_negative'}

local function report_negative(s)
  for name, delta in pairs(s.deltas) do
    local value = delta < 0 and s.r.counters[name] or 0
    if value < 0 then
      local kind, w = string.match(name, '^(%a[%a_]*)@(.*)$')
      if PHYSICAL[kind] then alert(PHYSICAL[kind], s, {warehouse = w, quantity = value}) end
    end
  end
end

-- End one change: modes, version, effect, negative counters, shortfalls (a warehouse below zero that fell further).
local function finish(s, cause, waived)
  local r = s.r
  r.version, r.at = r.version + 1, now
  evaluate(s, waived)
  if not s.dirty then
    s.dirty = true
    sku_order[#sku_order + 1] = s
  end
  effects[#effects + 1] = {s.sku, r.version, cause, s.deltas}
  report_negative(s)
  for w, was in pairs(s.was) do
    if s.free[w] < 0 and s.free[w] < was then
      alert('shortfall', s, {warehouse = w, quantity = -s.free[w]})
    end
  end
end

-- A change without deltas: a policy or a dwell changed an offer.
local function touch(s, cause, waived)
  begin(s)
  finish(s, cause, waived)
end

-- Whether a dwell has ended.
local function dwell_over(s)
  for _, side in pairs(s.r.modes) do
    if side.due and now >= side.due then return true end
  end
  return false
end
