-- `supersedes` (rule 27): a new order replaces an earlier unpaid hold of its channel and may use its units. The old
-- order is cancelled first, and restored if the new one is rejected.

local alerts = require('alerts')
local modes = require('modes')
local orders = require('orders')
local place = require('place')
local release = require('release')
local sku_record = require('sku_record')
local skus = require('skus')
local waiting = require('waiting')
local pack = cmsgpack.pack

local RESTORED = {'r', 'places', 'owns_places', 'sum', 'width', 'counters', 'modes', 'policies'}

local function copy(record) return cmsgpack.unpack(pack(record)) end

local function saved_state(o)
  local saved = {o = o, order = copy(o.r), alerts = #alerts.list, logged = skus.log.size, skus = {}}
  for _, line in ipairs(o.r.lines) do
    local s = skus.get(line.sku)
    if s then saved.skus[#saved.skus + 1] = {s, sku_record.pack(s), s.waits, modes.dwells_due[s.sku]} end
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
    s.waits, modes.dwells_due[s.sku] = entry[3], entry[4]
  end
  for i = #alerts.list, saved.alerts + 1, -1 do alerts.list[i] = nil end
  for i = skus.log.size, saved.logged + 1, -1 do skus.log[i] = nil end
  skus.log.size = saved.logged
end

-- -> a refusal, or nil and the earlier order if it is a hold to cancel
local function superseded(cmd)
  local old = cmd.supersedes and cmd.supersedes ~= cmd.order_id and orders.get(cmd.supersedes)
  if not orders.is_placed(old) then return nil, nil end
  release.expire_if_due(old)
  if old.r.channel ~= cmd.channel then return O.CONFLICT, nil end
  if old.r.state == 'paid' or old.r.state == 'shipped' then return O.ALREADY_FINAL, nil end
  return nil, old.r.state == 'reserved' and old or nil
end

-- End dwells by time first: they stay ended whatever the outcome of the order.
local function end_dwells(o)
  for _, line in ipairs(o.r.lines) do
    local s = skus.get(line.sku)
    if s and modes.dwell_over(s) then modes.touch(s, {'dwell', '', line.sku}) end
  end
end

-- Decide the new order with the old hold's units available. -> outcome
local function decide(o, cmd)
  end_dwells(o)
  local refusal, old = superseded(cmd)
  if refusal then
    for _, line in ipairs(o.r.lines) do line.reason = refusal end
    return refusal
  end
  if not old then return place.decide(o, cmd) end
  orders.mark_changed(old)
  local saved = saved_state(old)
  release.cancel_unshipped(old, {'cancel', cmd.id, old})
  local outcome = place.decide(o, cmd)
  if o.r.state == 'rejected' then
    roll_back(saved)
  else
    orders.include(old)
    waiting.settle(old)
  end
  return outcome
end

return {decide = decide}
