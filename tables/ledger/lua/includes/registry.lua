-- The registry: all known channels with their policies, and the state of the sweep that applies changes to all SKUs.
-- `fresh`: channels registered since the sweep began; `waived`: channels whose policy changed; `before`: their former
-- policies, so that only SKUs whose offer moved are changed. `as_of`: the batch of the newest change of channels or
-- policies; the interval of a SKU (modes.lua) holds for the policies as of the batch that it names.

local batch = require('batch')
local skus = require('skus')
local pack = cmsgpack.pack

local registry = {
  names = nil, channels = nil, as_of = nil, fresh = nil, waived = nil, before = nil, sweep_from = nil, -- as stored
  bytes = 0, -- of the stored record
  changed = false,
  policy_rows = {}, -- changes of policies in this batch, packed
  CHANNELS_MAX = 1000, -- each SKU is evaluated for each channel, and its rows name each
  BYTES_MAX = 1048576, -- 1 MiB: each batch reads the registry
}
local grouped -- `groups()` of this batch, until a policy changes

-- Take the fields of a stored record.
function registry.use(record)
  registry.names, registry.channels, registry.as_of = record.names or {}, record.channels or {}, record.as_of or 0
  registry.fresh, registry.waived, registry.before = record.fresh or {}, record.waived or {}, record.before or {}
  registry.sweep_from = record.sweep_from
end

function registry.load()
  local packed = redis.call('GET', KEYS[1] .. 'registry')
  registry.use(packed and cmsgpack.unpack(packed) or {})
  registry.bytes = packed and #packed or 0
end

function registry.can_register(channel)
  return registry.channels[channel] ~= nil or #registry.names < registry.CHANNELS_MAX
end

function registry.packed()
  -- `names` is always present: an empty table would be packed as an array, not as a map.
  local out = {sweep_from = registry.sweep_from, names = registry.names, as_of = registry.as_of}
  for _, name in ipairs({'channels', 'fresh', 'waived', 'before'}) do
    if next(registry[name]) ~= nil then out[name] = registry[name] end
  end
  return pack(out)
end

-- Built-in < channel < channel/sku, field by field (rule 2).
local DEFAULT = {
  share = 1, buffer = 0, safety_threshold = 0, below_threshold = 'sell_through', preorder_cap = 0,
  preorder_backed = false, dwell_seconds = 0, primary = false, split = true, pool_only = false,
}

function registry.merged(channel_level, sku_level)
  local policy = {}
  for field, value in pairs(DEFAULT) do policy[field] = value end
  for field, value in pairs(channel_level or {}) do policy[field] = value end
  for field, value in pairs(sku_level or {}) do policy[field] = value end
  if not policy.resume_threshold or policy.resume_threshold <= policy.safety_threshold then
    policy.resume_threshold = policy.safety_threshold + 1
  end
  if policy.purposes and #policy.purposes == 0 then policy.purposes = nil end
  if policy.warehouses then
    local once = {} -- without duplicates
    policy.allowed = {}
    for _, warehouse in ipairs(policy.warehouses) do
      if not policy.allowed[warehouse] then once[#once + 1] = warehouse end
      policy.allowed[warehouse] = true
    end
    policy.warehouses = once
  end
  if policy.primary and policy.below_threshold == 'suspend' then policy.below_threshold = 'sell_through' end
  return policy
end

-- The policy that is set at a level; nil if none is. `sku_name` nil or '': the level of the channel.
function registry.own_of(channel_name, sku_name)
  if sku_name and sku_name ~= '' then
    local sku = skus.get(sku_name)
    return sku and sku.policies and sku.policies[channel_name] or nil
  end
  local channel = registry.channels[channel_name]
  return channel and channel.has_policy and (channel.policy or {}) or nil
end

local channel_policies = {}
local default_policy -- once it is needed

-- The policy in force for a channel and SKU. An unknown channel has the defaults.
function registry.policy_of(sku, channel)
  local own = sku.policies and sku.policies[channel]
  if own then
    sku.merged = sku.merged or {}
    local policy = sku.merged[channel]
    if not policy then
      local known = registry.channels[channel]
      policy = registry.merged(known and known.policy, own)
      sku.merged[channel] = policy
    end
    return policy
  end
  local policy = channel_policies[channel]
  if not policy then
    local known = registry.channels[channel]
    default_policy = default_policy or registry.merged()
    policy = known and known.policy and registry.merged(known.policy) or default_policy
    channel_policies[channel] = policy
  end
  return policy
end

-- The policies of a channel change in this batch.
function registry.forget_policies(channel)
  channel_policies[channel], grouped, registry.as_of = nil, nil, batch.number
  for _, sku in pairs(skus.known) do
    if sku then sku.merged, sku.numbers[SKU.low], sku.numbers[SKU.high] = nil, 1, 0 end
  end
end

local no_sku = {}

-- The known channels by policy, leaving out policies of SKUs: `policies`, the `first` channel of each, and by channel
-- its group (`of`).
function registry.groups()
  if not grouped then
    local number = {}
    grouped = {policies = {}, first = {}, of = {}}
    for i, channel in ipairs(registry.names) do
      local policy = registry.policy_of(no_sku, channel)
      if not number[policy] then
        grouped.policies[#grouped.policies + 1], grouped.first[#grouped.first + 1] = policy, channel
        number[policy] = #grouped.policies
      end
      grouped.of[i] = number[policy]
    end
  end
  return grouped
end

return registry
