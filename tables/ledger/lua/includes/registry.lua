-- The registry: all known channels with their policies, and the state of the sweep that applies changes to all SKUs.
-- `fresh`: channels registered since the sweep began; `waived`: channels whose policy changed; `before`: their former
-- policies, so that only SKUs whose offer moved are changed.
local registry, registry_changed
local CHANNELS_MAX = 1000 -- each SKU is evaluated for each channel, and its rows name each
local REGISTRY_BYTES_MAX = 1048576 -- 1 MiB: each batch reads the registry

local function with_defaults(r)
  r.names, r.channels = r.names or {}, r.channels or {}
  r.fresh, r.waived, r.before = r.fresh or {}, r.waived or {}, r.before or {}
  return r
end

local function load_registry()
  local packed = redis.call('GET', KEYS[1] .. 'registry')
  registry = with_defaults(packed and unpack_all(packed) or {})
  registry.bytes = packed and #packed or 0
end

local function can_register(channel) return registry.channels[channel] ~= nil or #registry.names < CHANNELS_MAX end

local function packed_registry()
  -- `names` is always present: an empty table would be packed as an array, not as a map.
  local out = {sweep_from = registry.sweep_from, names = registry.names}
  for _, name in ipairs({'channels', 'fresh', 'waived', 'before'}) do
    if not is_empty(registry[name]) then out[name] = registry[name] end
  end
  return pack(out)
end

-- Built-in < channel < channel/sku, field by field (rule 2).
local DEFAULT = {
  share = 1, buffer = 0, safety_threshold = 0, below_threshold = 'sell_through', preorder_cap = 0,
  preorder_backed = false, dwell_seconds = 0, primary = false, split = true,
}

local function merged(channel_level, sku_level)
  local p = {}
  for field, value in pairs(DEFAULT) do p[field] = value end
  for field, value in pairs(channel_level or {}) do p[field] = value end
  for field, value in pairs(sku_level or {}) do p[field] = value end
  if not p.resume_threshold or p.resume_threshold <= p.safety_threshold then
    p.resume_threshold = p.safety_threshold + 1
  end
  if p.warehouses then
    local once = {} -- without duplicates
    p.allowed = {}
    for _, w in ipairs(p.warehouses) do
      if not p.allowed[w] then once[#once + 1] = w end
      p.allowed[w] = true
    end
    p.warehouses = once
  end
  if p.primary and p.below_threshold == 'suspend' then p.below_threshold = 'sell_through' end
  return p
end

local channel_policies = {}
local default_policy = merged()

-- The policy in force for a channel and SKU. An unknown channel has the defaults.
local function policy_of(s, channel)
  local own = s.r.policies[channel]
  local known = registry.channels[channel]
  if own then
    s.policies = s.policies or {}
    local p = s.policies[channel]
    if not p then
      p = merged(known and known.policy, own)
      s.policies[channel] = p
    end
    return p
  end
  local p = channel_policies[channel]
  if not p then
    p = known and known.policy and merged(known.policy) or default_policy
    channel_policies[channel] = p
  end
  return p
end

local function forget_policies(channel)
  channel_policies[channel] = nil
  for _, s in pairs(skus) do
    if s then s.policies = nil end
  end
end
