-- Policies and known channels; a sweep applies each change to the SKUs it affects (docs/rules.md, 1 to 5).

local announced = require('announced')
local batch = require('batch')
local modes = require('modes')
local offer = require('offer')
local policy_digest = require('policy_digest')
local prefetch = require('prefetch')
local registry = require('registry')
local skus = require('skus')
local pack = cmsgpack.pack

local SWEEP_INLINE_MAX = 200 -- SKUs re-evaluated in the step of the change itself: about 2 ms
local SWEEP_BYTES_MAX = 1048576 -- 1 MiB of records per step: some 10 ms
local SKU_POLICIES_BYTES_MAX = 262144 -- 256 KiB: the SKU's row must fit into a record of 4 MiB

-- Whether the offer of this SKU to a channel that is new or has a new policy differs from before, or waiting orders can
-- be filled now, or held units be moved.
local function offer_moved(sku)
  if next(registry.waived) then
    if sku.queued and require('fill').is_due(sku) then return true end
    if require('reroute').is_due(sku) then return true end
  end
  for _, channel in ipairs(registry.names) do
    local before = registry.before[channel]
    if registry.fresh[channel] then return true end
    if before then
      local policy, side = registry.policy_of(sku, channel), sku.modes and sku.modes[channel]
      local available = offer.available_of(sku, policy)
      if side and offer.comes_back(policy, available, offer.offered_of(sku, policy, available)) then return true end
      local policy_before = registry.merged(before, sku.policies and sku.policies[channel])
      local mode, quantity, remaining = offer.of(sku, channel, policy_before)
      local mode_now, quantity_now, remaining_now = offer.of(sku, channel, policy)
      if mode ~= mode_now or quantity ~= quantity_now or remaining ~= remaining_now then return true end
    end
  end
  return false
end

-- Whether a channel with a new policy sells from other warehouses than before, from which units are announced.
local function dates_moved(sku)
  for channel, before in pairs(sku.announced and registry.before or {}) do
    local policy = registry.policy_of(sku, channel)
    if not announced.allows_same(policy, registry.merged(before, sku.policies and sku.policies[channel])) then
      return true
    end
  end
  return false
end

local function reevaluate(sku)
  local moves_dates = dates_moved(sku)
  if moves_dates then require('promises').mark(sku) end
  if moves_dates or offer_moved(sku) then modes.touch(sku, {'sweep', '', ''}, registry.waived) end
end

-- Re-evaluate up to `skus_max` SKUs of a pending sweep; only SKUs whose offer moved change. -> true if one was pending
local function sweep(skus_max)
  if not registry.sweep_from then return false end
  registry.changed = true
  if registry.sweep_from == '' then
    -- SKUs created in this batch are not in the index yet.
    for i = 1, #skus.changed do
      if skus.changed[i].is_new then reevaluate(skus.changed[i]) end
    end
  end
  local from = registry.sweep_from == '' and '-' or '(' .. registry.sweep_from
  local page = redis.call('ZRANGEBYLEX', KEYS[1] .. 'skus', from, '+', 'LIMIT', 0, skus_max)
  local names = prefetch.names_within('sku:', page, SWEEP_BYTES_MAX)
  prefetch.skus_named(names)
  for _, sku_name in ipairs(names) do reevaluate(skus.get(sku_name)) end
  registry.sweep_from = (#page == skus_max or #names < #page) and names[#names] or nil
  if not registry.sweep_from then registry.fresh, registry.waived, registry.before = {}, {}, {} end
  return true
end

local function run_sweep(command) return {outcome = sweep(command.skus_max) and O.SWEPT or O.NOTHING_DUE} end

local function start_sweep()
  registry.sweep_from, registry.changed = '', true
  sweep(SWEEP_INLINE_MAX)
end

-- Add a channel with its policy, unless it is known. -> whether it is new; a sweep must follow
local function add_channel(channel, policy)
  if registry.channels[channel] then return false end
  registry.names[#registry.names + 1] = channel
  registry.channels[channel] = {known_at = batch.now, policy = policy and next(policy) ~= nil and policy or nil}
  registry.forget_policies(channel)
  registry.fresh[channel] = true
  return true
end

-- Register a channel and start the first evaluation of every SKU for it.
local function register_channel(channel)
  local is_new = add_channel(channel)
  if is_new then start_sweep() end
  return is_new
end

local function know_channel(command)
  if not registry.can_register(command.channel) then return {outcome = O.TOO_MANY_CHANNELS} end
  return {outcome = O.CHANNEL_KNOWN, replayed = not register_channel(command.channel) or nil}
end

-- Whether the policy fits into its level's record; the channel may be new.
local function has_room_for_policy(command, policy)
  local size = #pack(policy)
  if not command.sku then return registry.bytes + 2 * size <= registry.BYTES_MAX end
  local sku = skus.get(command.sku)
  return not sku or #pack(sku.policies or {}) + size <= SKU_POLICIES_BYTES_MAX
end

-- A change that a second person approved has its request too.
local function note(command, policy, before)
  local is_approved = command.requested_by ~= nil
  registry.policy_rows[#registry.policy_rows + 1] = (is_approved and MSGPACK.ARRAY_8 or MSGPACK.ARRAY_5)
    .. pack(command.channel) .. pack(command.sku or '') .. pack(policy) .. pack(before)
    .. pack(command.actor or 'operator')
    .. (is_approved and pack(command.requested_by) .. pack(command.reason) .. pack(command.id) or '')
end

-- The result for a caller that expects another policy than the level has; nil: go on. What is set already was set by
-- the same request, whose answer was lost, or by somebody who wanted the same.
local function refuse_unexpected(command, policy, outcome)
  if not command.expected then return nil end
  local found = policy_digest.of(registry.own_of(command.channel, command.sku))
  if found == command.expected then return nil end
  if found == policy_digest.of(policy) then return {outcome = outcome, replayed = true} end
  return {outcome = O.CONFLICT, detail = 'policy_changed'}
end

local function change_sku_policy(command, policy)
  local sku = skus.get_or_new(command.sku)
  local version = sku.numbers[SKU.version]
  sku.policies = sku.policies or {}
  note(command, policy, sku.policies[command.channel])
  sku.policies[command.channel] = policy
  sku.merged, sku.must_be_whole = nil, true
  local is_new = command.channel ~= '*' and register_channel(command.channel)
  if sku.numbers[SKU.version] == version then
    modes.touch(sku, {'set_policy', '', command.channel}, is_new and {} or {[command.channel] = true})
  end
  if sku.announced then require('promises').mark(sku) end
end

-- A sweep must follow.
local function change_channel_policy(command, policy)
  local is_new = add_channel(command.channel, policy)
  local channel = registry.channels[command.channel]
  note(command, policy, channel.has_policy and (channel.policy or {}) or nil)
  channel.has_policy = policy and true or nil
  if is_new then return end
  registry.before[command.channel] = channel.policy or {}
  registry.waived[command.channel] = true
  channel.policy = policy and next(policy) ~= nil and policy or nil
  registry.forget_policies(command.channel)
end

-- Why a policy cannot be set, or removed (nil); nil: it can.
local function refusal_of(command)
  if not command.policy then
    if not registry.own_of(command.channel, command.sku) then return O.UNKNOWN_POLICY end
    return not command.sku and registry.sweep_from and O.SWEEP_PENDING or nil
  end
  if command.channel ~= '*' and not registry.can_register(command.channel) then return O.TOO_MANY_CHANNELS end
  if not has_room_for_policy(command, command.policy) then return O.TOO_LARGE end
  if not command.sku and registry.sweep_from then return O.SWEEP_PENDING end
  return nil
end

local function set(command)
  local unexpected = refuse_unexpected(command, command.policy, O.POLICY_SET)
  if unexpected then return unexpected end
  local refusal = refusal_of(command)
  if refusal then return {outcome = refusal} end
  if command.sku then
    change_sku_policy(command, command.policy)
  else
    change_channel_policy(command, command.policy)
    start_sweep()
  end
  return {outcome = O.POLICY_SET}
end

local function delete(command)
  local unexpected = refuse_unexpected(command, nil, O.POLICY_DELETED)
  if unexpected then return unexpected end
  local refusal = refusal_of(command)
  if refusal then return {outcome = refusal} end
  if command.sku then
    change_sku_policy(command, nil)
  else
    change_channel_policy(command, nil)
    start_sweep()
  end
  return {outcome = O.POLICY_DELETED}
end

local function offered(sku, channel) return {offer.of(sku, channel, registry.policy_of(sku, channel))} end

-- What the SKUs are offered before and after a policy (nil: without one), decided as `set` and the sweep decide, in
-- memory: nothing is written. -> rows {sku, channel, before, after}; fewer than there are `names` where the step has
-- filled as many waiting orders as one may
local function preview_channel(command, names)
  local rows = {}
  for _, sku_name in ipairs(names) do
    local sku = skus.get(sku_name)
    if sku then rows[#rows + 1] = {sku_name, command.channel, offered(sku, command.channel)} end
  end
  change_channel_policy(command, command.policy)
  for i, row in ipairs(rows) do
    if i > 1 and not require('order_budget').has_room() then return {unpack(rows, 1, i - 1)}, true end
    local sku = skus.get(row[1])
    reevaluate(sku)
    row[4] = offered(sku, command.channel)
  end
  return rows, false
end

-- The same for the level of a SKU: a row for each channel that it concerns.
local function preview_sku(command)
  local rows, sku = {}, skus.get(command.sku)
  if not sku then return rows, false end
  for _, channel in ipairs(command.channel == '*' and registry.names or {command.channel}) do
    rows[#rows + 1] = {command.sku, channel, offered(sku, channel)}
  end
  change_sku_policy(command, command.policy)
  for _, row in ipairs(rows) do row[4] = offered(sku, row[2]) end
  return rows, false
end

-- -> rows, whether they are fewer than `names`, and the policy that would be in force
local function preview(command, names)
  local rows, is_cut
  if command.sku then
    rows, is_cut = preview_sku(command)
    local known = registry.channels[command.channel]
    return rows, is_cut, registry.merged(known and known.policy, command.policy)
  end
  rows, is_cut = preview_channel(command, names)
  return rows, is_cut, registry.merged(command.policy)
end

return {
  register_channel = register_channel, start_sweep = start_sweep, run_sweep = run_sweep, note = note,
  know_channel = know_channel, set = set, delete = delete, refusal_of = refusal_of, preview = preview,
}
