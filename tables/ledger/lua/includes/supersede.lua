-- `supersedes` (rule 27): a new order replaces an earlier unpaid hold of its channel and may use its units. The old
-- order is cancelled first, and restored if the new one is rejected.
local decide_superseding
do

local RESTORED = {'r', 'places', 'totals', 'sum', 'width', 'counters', 'modes', 'policies'}

local function copy(record) return unpack_all(pack(record)) end

local function saved_state(o)
  local saved = {o = o, order = copy(o.r), alerts = #alerts, logged = log.size, skus = {}}
  for _, line in ipairs(o.r.lines) do
    local s = get_sku(line.sku)
    if s then saved.skus[#saved.skus + 1] = {s, sku_record.pack(s), s.waits, dwells_due[s.sku]} end
  end
  return saved
end

local function roll_back(saved)
  local o = saved.o
  o.r = saved.order
  o.r.lines, o.r.events = o.r.lines or {}, o.r.events or {}
  for _, entry in ipairs(saved.skus) do
    local s = entry[1]
    local again = sku_record.read(s.sku, entry[2])
    for _, field in ipairs(RESTORED) do s[field] = again[field] end
    s.stored = nil -- `r` no longer tells what differs from the record in Redis
    s.waits, dwells_due[s.sku] = entry[3], entry[4]
  end
  for i = #alerts, saved.alerts + 1, -1 do alerts[i] = nil end
  for i = log.size, saved.logged + 1, -1 do log[i] = nil end
  log.size = saved.logged
end

-- -> a refusal, or nil and the earlier order if it is a hold to cancel
local function superseded(cmd)
  local old = cmd.supersedes and cmd.supersedes ~= cmd.order_id and get_order(cmd.supersedes)
  if not is_placed(old) then return nil, nil end
  expire_if_due(old)
  if old.r.channel ~= cmd.channel then return O.CONFLICT, nil end
  if old.r.state == 'paid' or old.r.state == 'shipped' then return O.ALREADY_FINAL, nil end
  return nil, old.r.state == 'reserved' and old or nil
end

-- End dwells by time first: they stay ended whatever the outcome of the order.
local function end_dwells(o)
  for _, line in ipairs(o.r.lines) do
    local s = get_sku(line.sku)
    if s and dwell_over(s) then touch(s, {'dwell', '', line.sku}) end
  end
end

-- Decide the new order with the old hold's units available. -> outcome
function decide_superseding(o, cmd)
  end_dwells(o)
  local refusal, old = superseded(cmd)
  if refusal then
    for _, line in ipairs(o.r.lines) do line.reason = refusal end
    return refusal
  end
  if not old then return decide(o, cmd) end
  mark_changed(old)
  local saved = saved_state(old)
  cancel_unshipped(old, {'cancel', cmd.id, old})
  local outcome = decide(o, cmd)
  if o.r.state == 'rejected' then
    roll_back(saved)
  else
    include_order(old)
    waiting.settle(old)
  end
  return outcome
end

end
