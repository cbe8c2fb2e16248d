-- What a channel may sell of a SKU: pure functions of the SKU, a policy and the channel's side of the threshold.
-- available -> units over the warehouses that the channel sells from, negative ones included (rule 6), without those
-- that are promised (sku_record.lua)
-- offered -> clamp(floor(share * (available - buffer)), 0, max_listed): from the shelf; the units in the pools from
-- which the channel may draw (`purposes`) are offered beside it

local codes = require('codes')
local registry = require('registry')
local sku_numbers = require('sku_numbers')
local skus = require('skus')
local pack = cmsgpack.pack

local function available_of(sku, policy)
  if not policy.warehouses then return sku.sum end
  local sum = -(sku.promised or 0)
  for _, warehouse in ipairs(policy.warehouses) do sum = sum + (skus.free_of(sku, warehouse) or 0) end
  return sum
end

local function best_of(sku, policy)
  if sku.totals and not policy.warehouses then
    return math.max(0, sku_numbers.free_at(sku.numbers, sku_numbers.best(sku.numbers, sku.places.count)))
  end
  local best = 0
  for _, warehouse in ipairs(policy.warehouses or sku.places.names) do
    local free = skus.free_of(sku, warehouse)
    if free and free > best then best = free end
  end
  return best
end

-- Shares are decimal: 0.29 * 100 must give 29, which binary arithmetic falls short of.
local EXACT = 1 + 1e-12

local function offered_of(sku, policy, available)
  if policy.pool_only then return 0 end
  local base = policy.split and available or math.min(available, best_of(sku, policy))
  local offered = math.floor(policy.share * (base - policy.buffer) * EXACT)
  if policy.max_listed and offered > policy.max_listed then offered = policy.max_listed end
  return offered > 0 and offered or 0
end

-- The least number of available units of which one is offered; nil if none ever is. For policies with `split` over all
-- warehouses: `offered` never falls as the units rise.
local function first_offered(policy)
  if policy.share <= 0 or policy.pool_only or (policy.max_listed and policy.max_listed < 1) then return nil end
  local first = policy.buffer + math.ceil(1 / policy.share / EXACT)
  if first > 2 ^ 53 then return nil end
  while offered_of(nil, policy, first) > 0 do first = first - 1 end
  while offered_of(nil, policy, first) == 0 do first = first + 1 end
  return first
end

-- -> the preordered units of all channels, and the announced units that are to come
local function preorder_sums(sku)
  local preordered, incoming = 0, 0
  for name, value in pairs(sku.counters or {}) do
    if string.sub(name, 1, 11) == 'preordered@' then preordered = preordered + value end
    if string.sub(name, 1, 9) == 'incoming#' then incoming = incoming + value end
  end
  return preordered, incoming
end

-- Rule 14; caps bound outstanding units, per channel and (`*`) over all channels.
local function preorder_remaining_of(sku, channel, policy)
  local remaining = policy.preorder_cap - skus.count_of(sku, 'preordered', channel)
  local over_all = sku.policies and sku.policies['*']
  local cap_over_all = over_all and over_all.preorder_cap
  if cap_over_all or policy.preorder_backed then
    local preordered, incoming = preorder_sums(sku)
    if cap_over_all then remaining = math.min(remaining, cap_over_all - preordered) end
    if policy.preorder_backed then remaining = math.min(remaining, incoming - preordered) end
  end
  return remaining > 0 and remaining or 0
end

-- True if the stock puts the channel below its threshold (rules 7 and 8).
local function falls_below(policy, available, offered)
  return offered == 0 or (policy.below_threshold ~= 'sell_through' and available <= policy.safety_threshold)
end

-- True if a channel that is below returns, apart from its dwell: at the resume threshold; or, if it sells through, at
-- or below the safety threshold, which does not apply then. Between the two the last mode stays (rule 9).
local function comes_back(policy, available, offered)
  if offered == 0 then return false end
  return available >= policy.resume_threshold
    or (policy.below_threshold == 'sell_through' and available <= policy.safety_threshold)
end

-- What a channel may sell from the shelf. -> mode, quantity, preorder_remaining. A channel without a stored side is
-- evaluated for the current stock.
local function shelf_of(sku, channel, policy)
  local available = available_of(sku, policy)
  local offered = offered_of(sku, policy, available)
  local side = sku.modes and sku.modes[channel]
  if not (side and side[1] == 1) and not falls_below(policy, available, offered) then return 'in_stock', offered, 0 end
  if policy.below_threshold == 'suspend' then return 'suspended', 0, 0 end
  if policy.below_threshold == 'preorder' then
    local remaining = preorder_remaining_of(sku, channel, policy)
    if remaining > 0 then return 'preorder', 0, remaining end
  end
  return 'sold_out', 0, 0
end

-- The units from pools that a line may take beside `quantity` from the shelf.
local function from_pools(sku, policy, quantity)
  local sources, sum = require('pools').sources_of(sku, policy, policy.purposes), 0
  if not policy.split and sources[1] then
    local first = sources[1] -- a line is of one warehouse, or whole from the shelf
    local free = math.max(0, sku_numbers.free_at(sku.numbers, first.at))
    return math.max(0, first.units + math.min(quantity, free) - quantity)
  end
  for _, source in ipairs(sources) do sum = sum + source.units end
  return sum
end

-- -> mode, quantity, preorder_remaining. A channel with units in its pools is in stock.
local function of(sku, channel, policy)
  local mode, quantity, remaining = shelf_of(sku, channel, policy)
  if policy.purposes and sku.numbers.pooled then
    local pooled = from_pools(sku, policy, quantity)
    if pooled > 0 then return 'in_stock', quantity + pooled, 0 end
  end
  return mode, quantity, remaining
end

-- Offers in the payload (tables/ledger/raw_decision.py, PackedSku): per offer one number, 4 * units + its mode's code.
local MODES = codes.mode
local IN_STOCK = MODES.in_stock

local function offer_code(sku, channel, policy)
  local mode, quantity, remaining = of(sku, channel, policy)
  return 4 * (quantity + remaining) + MODES[mode]
end

-- -> the packed codes, and the packed [channel index, publish_interval_ms, …] of policies of the SKU's own (or 0).
-- Without sides and policies of its own, a SKU has one code per group of channels with the same policy.
local list = {}

local function packed(sku)
  local groups, names = registry.groups(), registry.names
  if not sku.modes and not sku.policies then
    local policies = groups.policies
    for i = 1, #policies do
      local policy, available = policies[i], sku.sum
      -- The most frequent case of `of`, without its other results.
      local is_plain = not policy.warehouses and policy.split and not policy.purposes
      local offered = is_plain and offered_of(sku, policy, available)
      if offered and not falls_below(policy, available, offered) then
        list[i] = 4 * offered + IN_STOCK
      else
        list[i] = offer_code(sku, groups.first[i], policy)
      end
    end
    for i = #list, #groups.policies + 1, -1 do list[i] = nil end
    return pack(list), MSGPACK.ZERO
  end
  local intervals
  for i, channel in ipairs(names) do
    local policy = registry.policy_of(sku, channel)
    list[i] = offer_code(sku, channel, policy)
    if sku.policies and sku.policies[channel] then
      intervals = intervals or {}
      intervals[#intervals + 1], intervals[#intervals + 2] = i - 1, policy.publish_interval_ms or 0
    end
  end
  for i = #list, #names + 1, -1 do list[i] = nil end
  return pack(list), intervals and pack(intervals) or MSGPACK.ZERO
end

-- After `packed`: [channel index, when the next preordered unit is promised (ms), …] of the channels on preorder.
local function packed_dates(sku)
  local groups, of_policy, dates = registry.groups(), {}, {}
  local is_grouped = not sku.modes and not sku.policies
  for i, channel in ipairs(registry.names) do
    if list[is_grouped and groups.of[i] or i] % 4 == MODES.preorder then
      local policy = registry.policy_of(sku, channel)
      if of_policy[policy] == nil then of_policy[policy] = require('announced').next_date(sku, policy) or false end
      if of_policy[policy] then dates[#dates + 1], dates[#dates + 2] = i - 1, of_policy[policy] end
    end
  end
  return pack(dates)
end

return {
  available_of = available_of, best_of = best_of, offered_of = offered_of, first_offered = first_offered,
  falls_below = falls_below, comes_back = comes_back, preorder_remaining_of = preorder_remaining_of,
  shelf_of = shelf_of, of = of, packed = packed, packed_dates = packed_dates, preorder_sums = preorder_sums,
}
