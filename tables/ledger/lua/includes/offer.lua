-- What a channel may sell of a SKU: pure functions of the SKU, a policy and the channel's side of the threshold.
-- available -> units over the warehouses that the channel sells from, negative ones included (rule 6)
-- offered -> clamp(floor(share * (available - buffer)), 0, max_listed)
local function available_of(s, p)
  if not p.warehouses then return s.sum end
  local sum = 0
  for _, w in ipairs(p.warehouses) do sum = sum + (s.free[w] or 0) end
  return sum
end

local function best_of(s, p)
  local best = 0
  for _, w in ipairs(p.warehouses or s.r.warehouses) do
    local free = s.free[w]
    if free and free > best then best = free end
  end
  return best
end

-- Shares are decimal: 0.29 * 100 must give 29, which binary arithmetic falls short of.
local EXACT = 1 + 1e-12

local function offered_of(s, p, available)
  local base = p.split and available or math.min(available, best_of(s, p))
  local offered = math.floor(p.share * (base - p.buffer) * EXACT)
  if p.max_listed and offered > p.max_listed then offered = p.max_listed end
  return offered > 0 and offered or 0
end

-- Rule 14; caps bound outstanding units, per channel and (`*`) over all channels.
local function preorder_remaining_of(s, channel, p)
  local remaining = p.preorder_cap - count_of(s, 'preordered', channel)
  local over_all = s.r.policies['*']
  local cap_over_all = over_all and over_all.preorder_cap
  if cap_over_all or p.preorder_backed then
    local preordered, incoming = 0, 0
    for name, value in pairs(s.r.counters) do
      if string.sub(name, 1, 11) == 'preordered@' then preordered = preordered + value end
      if string.sub(name, 1, 9) == 'incoming#' then incoming = incoming + value end
    end
    if cap_over_all then remaining = math.min(remaining, cap_over_all - preordered) end
    if p.preorder_backed then remaining = math.min(remaining, incoming - preordered) end
  end
  return remaining > 0 and remaining or 0
end

-- True if the stock puts the channel below its threshold (rules 7 and 8).
local function falls_below(p, available, offered)
  return offered == 0 or (p.below_threshold ~= 'sell_through' and available <= p.safety_threshold)
end

-- True if a channel that is below returns, apart from its dwell: at the resume threshold; or, if it sells through, at
-- or below the safety threshold, which does not apply then. Between the two the last mode stays (rule 9).
local function comes_back(p, available, offered)
  if offered == 0 then return false end
  return available >= p.resume_threshold
    or (p.below_threshold == 'sell_through' and available <= p.safety_threshold)
end

-- -> mode, quantity, preorder_remaining. A channel without a stored side is evaluated for the current stock.
local function offer_of(s, channel, p)
  local available = available_of(s, p)
  local offered = offered_of(s, p, available)
  local side = s.r.modes[channel]
  if not (side and side.below) and not falls_below(p, available, offered) then return 'in_stock', offered, 0 end
  if p.below_threshold == 'suspend' then return 'suspended', 0, 0 end
  if p.below_threshold == 'preorder' then
    local remaining = preorder_remaining_of(s, channel, p)
    if remaining > 0 then return 'preorder', 0, remaining end
  end
  return 'sold_out', 0, 0
end

-- The offers to all known channels, packed as an array of tables/ledger/records.py, Offer. Channels under one policy
-- share one packed tail.
local packed_names = {}

local function packed_offers(s)
  local parts, tails = {array_header(#registry.names)}, {}
  for i, channel in ipairs(registry.names) do
    local p = policy_of(s, channel)
    local shared = not s.r.modes[channel] and p.below_threshold ~= 'preorder'
    local tail = shared and tails[p]
    if not tail then
      local mode, quantity, remaining = offer_of(s, channel, p)
      tail = pack(mode) .. pack(quantity) .. pack(remaining) .. pack(p.publish_interval_ms)
      if shared then tails[p] = tail end
    end
    local name = packed_names[channel]
    if not name then
      name = '\149' .. pack(channel)
      packed_names[channel] = name
    end
    parts[i + 1] = name .. tail
  end
  return table.concat(parts)
end
