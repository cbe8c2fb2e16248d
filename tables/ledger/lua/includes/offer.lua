-- What a channel may sell of a SKU: pure functions of the SKU, a policy and the channel's side of the threshold.
-- available -> units over the warehouses that the channel sells from, negative ones included (rule 6)
-- offered -> clamp(floor(share * (available - buffer)), 0, max_listed)
local codes, available_of, offered_of, first_offered, falls_below, comes_back, offer_of, packed_offers
do
function available_of(s, p)
  if not p.warehouses then return s.sum end
  local sum = 0
  for _, w in ipairs(p.warehouses) do sum = sum + (free_of(s, w) or 0) end
  return sum
end

local function best_of(s, p)
  local best = 0
  if s.totals and not p.warehouses then return math.max(0, free_at(s, sku_record.best(s))) end
  for _, w in ipairs(p.warehouses or s.places.names) do
    local free = free_of(s, w)
    if free and free > best then best = free end
  end
  return best
end

-- Shares are decimal: 0.29 * 100 must give 29, which binary arithmetic falls short of.
local EXACT = 1 + 1e-12

function offered_of(s, p, available)
  local base = p.split and available or math.min(available, best_of(s, p))
  local offered = math.floor(p.share * (base - p.buffer) * EXACT)
  if p.max_listed and offered > p.max_listed then offered = p.max_listed end
  return offered > 0 and offered or 0
end

-- The least number of available units of which one is offered; nil if none ever is. For policies with `split` over all
-- warehouses: `offered` never falls as the units rise.
function first_offered(p)
  if p.share <= 0 or (p.max_listed and p.max_listed < 1) then return nil end
  local first = p.buffer + math.ceil(1 / p.share / EXACT)
  if first > 2 ^ 53 then return nil end
  while offered_of(nil, p, first) > 0 do first = first - 1 end
  while offered_of(nil, p, first) == 0 do first = first + 1 end
  return first
end

-- Rule 14; caps bound outstanding units, per channel and (`*`) over all channels.
local function preorder_remaining_of(s, channel, p)
  local remaining = p.preorder_cap - count_of(s, 'preordered', channel)
  local over_all = s.policies and s.policies['*']
  local cap_over_all = over_all and over_all.preorder_cap
  if cap_over_all or p.preorder_backed then
    local preordered, incoming = 0, 0
    for name, value in pairs(s.counters or {}) do
      if string.sub(name, 1, 11) == 'preordered@' then preordered = preordered + value end
      if string.sub(name, 1, 9) == 'incoming#' then incoming = incoming + value end
    end
    if cap_over_all then remaining = math.min(remaining, cap_over_all - preordered) end
    if p.preorder_backed then remaining = math.min(remaining, incoming - preordered) end
  end
  return remaining > 0 and remaining or 0
end

-- True if the stock puts the channel below its threshold (rules 7 and 8).
function falls_below(p, available, offered)
  return offered == 0 or (p.below_threshold ~= 'sell_through' and available <= p.safety_threshold)
end

-- True if a channel that is below returns, apart from its dwell: at the resume threshold; or, if it sells through, at
-- or below the safety threshold, which does not apply then. Between the two the last mode stays (rule 9).
function comes_back(p, available, offered)
  if offered == 0 then return false end
  return available >= p.resume_threshold
    or (p.below_threshold == 'sell_through' and available <= p.safety_threshold)
end

-- -> mode, quantity, preorder_remaining. A channel without a stored side is evaluated for the current stock.
function offer_of(s, channel, p)
  local available = available_of(s, p)
  local offered = offered_of(s, p, available)
  local side = s.modes and s.modes[channel]
  if not (side and side[1] == 1) and not falls_below(p, available, offered) then return 'in_stock', offered, 0 end
  if p.below_threshold == 'suspend' then return 'suspended', 0, 0 end
  if p.below_threshold == 'preorder' then
    local remaining = preorder_remaining_of(s, channel, p)
    if remaining > 0 then return 'preorder', 0, remaining end
  end
  return 'sold_out', 0, 0
end

-- Offers in the payload (tables/ledger/raw_decision.py, PackedSku): per offer one number, 4 * units + its mode's code.
local MODES = CODES.mode

local IN_STOCK = MODES.in_stock

local function offer_code(s, channel, p)
  local mode, quantity, remaining = offer_of(s, channel, p)
  return 4 * (quantity + remaining) + MODES[mode]
end

-- -> the packed codes, and the packed [channel index, publish_interval_ms, …] of policies of the SKU's own (or 0).
-- Without sides and policies of its own, a SKU has one code per group of channels with the same policy.
codes = {}

function packed_offers(s)
  local groups, names = group_channels(), registry.names
  if not s.modes and not s.policies then
    local policies = groups.policies
    for i = 1, #policies do
      local p, available = policies[i], s.sum
      -- The most frequent case of offer_of, without its other results.
      local offered = not p.warehouses and p.split and offered_of(s, p, available)
      if offered and not falls_below(p, available, offered) then
        codes[i] = 4 * offered + IN_STOCK
      else
        codes[i] = offer_code(s, groups.first[i], p)
      end
    end
    for i = #codes, #groups.policies + 1, -1 do codes[i] = nil end
    return pack(codes), '\0'
  end
  local intervals
  for i, channel in ipairs(names) do
    local p = policy_of(s, channel)
    codes[i] = offer_code(s, channel, p)
    if s.policies and s.policies[channel] then
      intervals = intervals or {}
      intervals[#intervals + 1], intervals[#intervals + 2] = i - 1, p.publish_interval_ms or 0
    end
  end
  for i = #codes, #names + 1, -1 do codes[i] = nil end
  return pack(codes), intervals and pack(intervals) or '\0'
end

end
