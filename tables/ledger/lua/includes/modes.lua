-- The side of the threshold that each channel is on, stored in the SKU: leaving `in_stock` is immediate, coming back
-- waits for the resume threshold and the dwell (rules 4, 7, 8, 9).

local alerts = require('alerts')
local batch = require('batch')
local offer = require('offer')
local registry = require('registry')
local sku_record = require('sku_record')
local skus = require('skus')

local dwells_due = {}

-- The channels whose side goes into the patch (includes/payload.lua).
local function note_side(s, channel)
  s.sides = s.sides or {}
  s.sides[channel] = true
end

-- The units by which the current change moved a warehouse's free units, given the index of its first number.
local FREE_SIGN = {
  [WAREHOUSE.on_hand] = 1, [WAREHOUSE.committed] = -1, [WAREHOUSE.locked] = -1, [WAREHOUSE.damaged] = 0,
}

local function moved_at(s, at)
  local sum, first = 0, at - WAREHOUSE.first
  for i = s.logged_from + 5, skus.log.size, 2 do
    local counter = skus.log[i]
    if type(counter) == 'number' and counter >= first and counter < first + WAREHOUSE.size then
      sum = sum + FREE_SIGN[counter - first] * skus.log[i + 1]
    end
  end
  return sum
end

-- Units available under a policy before the current change.
local function available_before(s, p)
  if not p.warehouses then return s.sum_was end
  local sum = 0
  for _, w in ipairs(p.warehouses) do
    local at = s.places.at[w]
    if at then sum = sum + skus.free_at(s, at) - moved_at(s, at) end
  end
  return sum
end

local function leave(s, channel, p, available, never_was)
  note_side(s, channel)
  s.modes = s.modes or {}
  s.modes[channel] = {1, never_was and 0 or batch.now, 0} -- state (1: below), left_at, due
  if available <= p.safety_threshold and p.safety_threshold > 0 and not never_was then
    alerts.add('low_stock', s, {channel = channel, quantity = available})
  end
end

local function return_to_stock(s, channel, p, side, waived)
  note_side(s, channel)
  local due = side[2] + p.dwell_seconds * 1000
  if side[2] == 0 or waived or batch.now >= due then
    s.modes[channel] = nil
  else
    side[3] = due
  end
end

-- The index of dwells holds a SKU once, at the earliest end among its channels.
local function note_dwells(s)
  local first = false
  if s.modes then
    for _, side in pairs(s.modes) do
      if side[3] ~= 0 and (not first or side[3] < first) then first = side[3] end
    end
  end
  if first or s.waits then dwells_due[s.sku] = first end
  s.waits = first
end

-- Whether a change may move a side. Sides depend on the policies and on the available units alone, except where a
-- dwell waits for its end; within the SKU's interval of available units no side moves (set_interval).
local function may_move(s, waived)
  local r, sum = s.r, s.sum
  return sum < r[SKU.low] or sum > r[SKU.high] or r[SKU.as_of] ~= registry.as_of or waived
end

-- Numbers of available units at which the side of a channel under `p` can move; false: at any, because the sum over all
-- warehouses does not decide.
local function edges_of(p)
  if p.edges == nil then
    if p.warehouses or not p.split then
      p.edges = false
    else
      p.edges = {p.safety_threshold + 1, p.resume_threshold, offer.first_offered(p)}
    end
  end
  return p.edges
end

-- -> `low`, `high` narrowed to where `p` moves no side
local function narrowed(s, p, low, high)
  local edges, sum = edges_of(p), s.sum
  if not edges then return 1, 0 end
  for i = 1, #edges do
    local edge = edges[i]
    if edge > sum then
      if edge <= high then high = edge - 1 end
    elseif edge > low then
      low = edge
    end
  end
  return low, high
end

-- Set the interval of available units, around the current number, within which no channel's side moves.
local function set_interval(s)
  local r, sum = s.r, s.sum
  if sum > sku_record.NARROW_MAX or sum < -sku_record.NARROW_MAX then sku_record.widen(s) end
  local high = sku_record.limit(s)
  local low = -high
  if s.waits then
    low, high = 1, 0
  elseif s.policies then
    for _, channel in ipairs(registry.names) do low, high = narrowed(s, registry.policy_of(s, channel), low, high) end
  else
    for _, p in ipairs(registry.groups().policies) do low, high = narrowed(s, p, low, high) end
  end
  r[SKU.low], r[SKU.high], r[SKU.as_of] = low, high, registry.as_of
end

-- Set the side of every known channel for the current stock. `waived`: channels without a dwell.
local function evaluate(s, waived)
  if s.places.count == 0 then return end
  local evaluated, available, offered
  for _, channel in ipairs(registry.names) do
    local p = registry.policy_of(s, channel)
    if p ~= evaluated then
      evaluated, available = p, offer.available_of(s, p)
      offered = offer.offered_of(s, p, available)
    end
    local side = s.modes and s.modes[channel]
    if not side then
      if offer.falls_below(p, available, offered) then
        leave(s, channel, p, available, s.starting or registry.fresh[channel])
      elseif available <= p.safety_threshold and available_before(s, p) > p.safety_threshold then
        alerts.add('low_stock', s, {channel = channel, quantity = available})
      end
    elseif offer.comes_back(p, available, offered) then
      return_to_stock(s, channel, p, side, waived and waived[channel])
    elseif side[3] ~= 0 then
      note_side(s, channel)
      side[3] = 0
    end
  end
  s.starting = nil
  note_dwells(s)
  set_interval(s)
end

-- Rule 47: alert for each counter of physical units that is negative and fell. A shortfall is a warehouse below zero
-- that fell further.
local PHYSICAL = {[WAREHOUSE.on_hand] = 'on_hand_negative', [WAREHOUSE.damaged] = 'damaged_negative'}

local function report_negative(s)
  local r, reported = s.r, nil
  for i = s.logged_from + 5, skus.log.size, 2 do
    local counter = skus.log[i]
    if type(counter) == 'number' then
      local kind = counter % WAREHOUSE.size
      local at = counter - kind + WAREHOUSE.first
      if skus.log[i + 1] < 0 and PHYSICAL[kind] and r[at + kind] < 0 then
        local w = s.places.names[(counter - kind) / WAREHOUSE.size + 1]
        alerts.add(PHYSICAL[kind], s, {warehouse = w, quantity = r[at + kind]})
      end
      if skus.free_at(s, at) < 0 and moved_at(s, at) < 0 and not (reported and reported[at]) then
        reported = reported or {}
        reported[at] = true
      end
    end
  end
  if not reported then return end
  for at in pairs(reported) do
    local w = s.places.names[(at - WAREHOUSE.first) / WAREHOUSE.size + 1]
    alerts.add('shortfall', s, {warehouse = w, quantity = -skus.free_at(s, at)})
  end
end

-- End one change: version, modes, the entry in the log of effects, alerts. `cause`: {kind, id, subject} and, from here,
-- its number; the subject is an order's table, or a name.
local function finish(s, cause, waived)
  local r, from = s.r, s.logged_from
  r[SKU.version], r[SKU.at] = r[SKU.version] + 1, batch.now
  if may_move(s, waived) then evaluate(s, waived) end
  if not cause[4] then
    skus.causes[#skus.causes + 1] = cause
    cause[4] = #skus.causes - 1
  end
  skus.log[from + 1], skus.log[from + 2], skus.log[from + 3] = s.place, r[SKU.version], cause[4]
  skus.log[from + 4] = (skus.log.size - from - 4) / 2
  report_negative(s)
end

-- A change without deltas: a policy or a dwell changed an offer.
local function touch(s, cause, waived)
  skus.begin(s)
  finish(s, cause, waived)
end

-- Whether a dwell has ended.
local function dwell_over(s)
  if not s.modes then return false end
  for _, side in pairs(s.modes) do
    if side[3] ~= 0 and batch.now >= side[3] then return true end
  end
  return false
end

return {dwells_due = dwells_due, note_dwells = note_dwells, finish = finish, touch = touch, dwell_over = dwell_over}
