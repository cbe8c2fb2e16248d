-- Policies and known channels; a sweep applies each change to the SKUs it affects (docs/rules.md, 1 to 5).
local policy_rows, register_channel, start_sweep, sweep, note_policy, know_channel, set_policy, delete_policy
do

policy_rows = {}
local SWEEP_INLINE_MAX = 200 -- SKUs re-evaluated in the step of the change itself: about 2 ms
local SWEEP_BYTES_MAX = 1048576 -- 1 MiB of records per step: some 10 ms
local SKU_POLICIES_BYTES_MAX = 262144 -- 256 KiB: the SKU's row must fit into a record of 4 MiB

-- Whether the offer of this SKU to a channel that is new or has a new policy differs from before.
local function offer_moved(s)
  for _, channel in ipairs(registry.names) do
    local before = registry.before[channel]
    if registry.fresh[channel] then return true end
    if before then
      local p, side = policy_of(s, channel), s.modes and s.modes[channel]
      local available = available_of(s, p)
      if side and comes_back(p, available, offered_of(s, p, available)) then return true end
      local mode, quantity, remaining = offer_of(s, channel, merged(before, s.policies and s.policies[channel]))
      local mode_now, quantity_now, remaining_now = offer_of(s, channel, p)
      if mode ~= mode_now or quantity ~= quantity_now or remaining ~= remaining_now then return true end
    end
  end
  return false
end

local function reevaluate(s)
  if offer_moved(s) then touch(s, {'sweep', '', ''}, registry.waived) end
end

-- Re-evaluate up to `n` SKUs of a pending sweep; only SKUs whose offer moved change. -> true if a sweep was pending
function sweep(n)
  if not registry.sweep_from then return false end
  registry_changed = true
  if registry.sweep_from == '' then
    -- SKUs created in this batch are not in the index yet.
    for i = 1, #sku_order do
      if sku_order[i].is_new then reevaluate(sku_order[i]) end
    end
  end
  local from = registry.sweep_from == '' and '-' or '(' .. registry.sweep_from
  local page = redis.call('ZRANGEBYLEX', KEYS[1] .. 'skus', from, '+', 'LIMIT', 0, n)
  local names = names_within('sku:', page, SWEEP_BYTES_MAX)
  fetch_skus(names)
  for _, sku in ipairs(names) do reevaluate(get_sku(sku)) end
  registry.sweep_from = (#page == n or #names < #page) and names[#names] or nil
  if not registry.sweep_from then registry.fresh, registry.waived, registry.before = {}, {}, {} end
  return true
end

function start_sweep()
  registry.sweep_from, registry_changed = '', true
  sweep(SWEEP_INLINE_MAX)
end

-- Register a channel with its policy and start the first evaluation of every SKU for it.
function register_channel(channel, policy)
  if registry.channels[channel] then return false end
  registry.names[#registry.names + 1] = channel
  registry.channels[channel] = {known_at = now, policy = policy and not is_empty(policy) and policy or nil}
  forget_policies(channel)
  registry.fresh[channel] = true
  start_sweep()
  return true
end

function know_channel(cmd)
  if not can_register(cmd.channel) then return {outcome = O.TOO_MANY_CHANNELS} end
  return {outcome = O.CHANNEL_KNOWN, replayed = not register_channel(cmd.channel) or nil}
end

-- Whether the policy fits into its level's record; the channel may be new.
local function has_room_for_policy(cmd, policy)
  local size = #pack(policy)
  if not cmd.sku then return registry.bytes + 2 * size <= REGISTRY_BYTES_MAX end
  local s = get_sku(cmd.sku)
  return not s or #pack(s.policies or {}) + size <= SKU_POLICIES_BYTES_MAX
end

function note_policy(cmd, policy, before)
  policy_rows[#policy_rows + 1] = '\149' .. pack(cmd.channel) .. pack(cmd.sku or '') .. pack(policy) .. pack(before)
    .. pack(cmd.actor or 'operator')
end

local function change_sku_policy(cmd, policy)
  local s = known_sku(cmd.sku)
  local version = s.r[SKU.version]
  s.policies = s.policies or {}
  note_policy(cmd, policy, s.policies[cmd.channel])
  s.policies[cmd.channel] = policy
  s.merged, s.must_be_whole = nil, true
  if cmd.channel ~= '*' then register_channel(cmd.channel) end
  if s.r[SKU.version] == version then touch(s, {'set_policy', '', cmd.channel}, {[cmd.channel] = true}) end
end

local function change_channel_policy(cmd, policy)
  local is_new = register_channel(cmd.channel, policy)
  local channel = registry.channels[cmd.channel]
  local before = channel.has_policy and (channel.policy or {}) or nil
  channel.has_policy = policy and true or nil
  if is_new then
    note_policy(cmd, policy, before)
    return
  end
  note_policy(cmd, policy, before)
  registry.before[cmd.channel] = channel.policy or {}
  registry.waived[cmd.channel] = true
  channel.policy = policy and not is_empty(policy) and policy or nil
  forget_policies(cmd.channel)
  start_sweep()
end

function set_policy(cmd)
  if cmd.channel ~= '*' and not can_register(cmd.channel) then return {outcome = O.TOO_MANY_CHANNELS} end
  if not has_room_for_policy(cmd, cmd.policy) then return {outcome = O.TOO_LARGE} end
  if cmd.sku then
    change_sku_policy(cmd, cmd.policy)
  else
    if registry.sweep_from then return {outcome = O.SWEEP_PENDING} end
    change_channel_policy(cmd, cmd.policy)
  end
  return {outcome = O.POLICY_SET}
end

function delete_policy(cmd)
  if cmd.sku then
    local s = get_sku(cmd.sku)
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

end
