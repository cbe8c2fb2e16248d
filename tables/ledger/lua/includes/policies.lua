-- Policies and known channels; a sweep applies each change to the SKUs it affects (docs/rules.md, 1 to 5).

local batch = require('batch')
local modes = require('modes')
local offer = require('offer')
local prefetch = require('prefetch')
local registry = require('registry')
local skus = require('skus')
local pack = cmsgpack.pack

local SWEEP_INLINE_MAX = 200 -- SKUs re-evaluated in the step of the change itself: about 2 ms
local SWEEP_BYTES_MAX = 1048576 -- 1 MiB of records per step: some 10 ms
local SKU_POLICIES_BYTES_MAX = 262144 -- 256 KiB: the SKU's row must fit into a record of 4 MiB

-- Whether the offer of this SKU to a channel that is new or has a new policy differs from before.
local function offer_moved(s)
  for _, channel in ipairs(registry.names) do
    local before = registry.before[channel]
    if registry.fresh[channel] then return true end
    if before then
      local p, side = registry.policy_of(s, channel), s.modes and s.modes[channel]
      local available = offer.available_of(s, p)
      if side and offer.comes_back(p, available, offer.offered_of(s, p, available)) then return true end
      local mode, quantity, remaining = offer.of(s, channel, registry.merged(before, s.policies and s.policies[channel]))
      local mode_now, quantity_now, remaining_now = offer.of(s, channel, p)
      if mode ~= mode_now or quantity ~= quantity_now or remaining ~= remaining_now then return true end
    end
  end
  return false
end

local function reevaluate(s)
  if offer_moved(s) then modes.touch(s, {'sweep', '', ''}, registry.waived) end
end

-- Re-evaluate up to `n` SKUs of a pending sweep; only SKUs whose offer moved change. -> true if a sweep was pending
local function sweep(n)
  if not registry.sweep_from then return false end
  registry.changed = true
  if registry.sweep_from == '' then
    -- SKUs created in this batch are not in the index yet.
    for i = 1, #skus.changed do
      if skus.changed[i].is_new then reevaluate(skus.changed[i]) end
    end
  end
  local from = registry.sweep_from == '' and '-' or '(' .. registry.sweep_from
  local page = redis.call('ZRANGEBYLEX', KEYS[1] .. 'skus', from, '+', 'LIMIT', 0, n)
  local names = prefetch.names_within('sku:', page, SWEEP_BYTES_MAX)
  prefetch.skus_named(names)
  for _, sku in ipairs(names) do reevaluate(skus.get(sku)) end
  registry.sweep_from = (#page == n or #names < #page) and names[#names] or nil
  if not registry.sweep_from then registry.fresh, registry.waived, registry.before = {}, {}, {} end
  return true
end

local function run_sweep(cmd) return {outcome = sweep(cmd.skus_max) and O.SWEPT or O.NOTHING_DUE} end

local function start_sweep()
  registry.sweep_from, registry.changed = '', true
  sweep(SWEEP_INLINE_MAX)
end

-- Register a channel with its policy and start the first evaluation of every SKU for it.
local function register_channel(channel, policy)
  if registry.channels[channel] then return false end
  registry.names[#registry.names + 1] = channel
  registry.channels[channel] = {known_at = batch.now, policy = policy and next(policy) ~= nil and policy or nil}
  registry.forget_policies(channel)
  registry.fresh[channel] = true
  start_sweep()
  return true
end

local function know_channel(cmd)
  if not registry.can_register(cmd.channel) then return {outcome = O.TOO_MANY_CHANNELS} end
  return {outcome = O.CHANNEL_KNOWN, replayed = not register_channel(cmd.channel) or nil}
end

-- Whether the policy fits into its level's record; the channel may be new.
local function has_room_for_policy(cmd, policy)
  local size = #pack(policy)
  if not cmd.sku then return registry.bytes + 2 * size <= registry.BYTES_MAX end
  local s = skus.get(cmd.sku)
  return not s or #pack(s.policies or {}) + size <= SKU_POLICIES_BYTES_MAX
end

local function note(cmd, policy, before)
  registry.policy_rows[#registry.policy_rows + 1] = MSGPACK.ARRAY_5 .. pack(cmd.channel) .. pack(cmd.sku or '') .. pack(policy) .. pack(before)
    .. pack(cmd.actor or 'operator')
end

local function change_sku_policy(cmd, policy)
  local s = skus.get_or_new(cmd.sku)
  local version = s.r[SKU.version]
  s.policies = s.policies or {}
  note(cmd, policy, s.policies[cmd.channel])
  s.policies[cmd.channel] = policy
  s.merged, s.must_be_whole = nil, true
  if cmd.channel ~= '*' then register_channel(cmd.channel) end
  if s.r[SKU.version] == version then modes.touch(s, {'set_policy', '', cmd.channel}, {[cmd.channel] = true}) end
end

local function change_channel_policy(cmd, policy)
  local is_new = register_channel(cmd.channel, policy)
  local channel = registry.channels[cmd.channel]
  local before = channel.has_policy and (channel.policy or {}) or nil
  channel.has_policy = policy and true or nil
  if is_new then
    note(cmd, policy, before)
    return
  end
  note(cmd, policy, before)
  registry.before[cmd.channel] = channel.policy or {}
  registry.waived[cmd.channel] = true
  channel.policy = policy and next(policy) ~= nil and policy or nil
  registry.forget_policies(cmd.channel)
  start_sweep()
end

local function set(cmd)
  if cmd.channel ~= '*' and not registry.can_register(cmd.channel) then return {outcome = O.TOO_MANY_CHANNELS} end
  if not has_room_for_policy(cmd, cmd.policy) then return {outcome = O.TOO_LARGE} end
  if cmd.sku then
    change_sku_policy(cmd, cmd.policy)
  else
    if registry.sweep_from then return {outcome = O.SWEEP_PENDING} end
    change_channel_policy(cmd, cmd.policy)
  end
  return {outcome = O.POLICY_SET}
end

local function delete(cmd)
  if cmd.sku then
    local s = skus.get(cmd.sku)
    if not s or not (s.policies and s.policies[cmd.channel]) then return {outcome = O.UNKNOWN_POLICY} end
    change_sku_policy(cmd, nil)
  else
    local channel = registry.channels[cmd.channel]
    if not channel or not channel.has_policy then return {outcome = O.UNKNOWN_POLICY} end
    if registry.sweep_from then return {outcome = O.SWEEP_PENDING} end
    change_channel_policy(cmd, nil)
  end
  return {outcome = O.POLICY_DELETED}
end

return {
  register_channel = register_channel, start_sweep = start_sweep, run_sweep = run_sweep, note = note,
  know_channel = know_channel, set = set, delete = delete,
}
