-- `supersedes` (rule 27): a new order replaces an earlier unpaid hold of its channel and may use its units. The old
-- order is cancelled first, and restored if the new one is rejected.

local alerts = require('alerts')
local batch = require('batch')
local fill = require('fill')
local modes = require('modes')
local orders = require('orders')
local place = require('place')
local queue = require('queue')
local release = require('release')
local sku_record = require('sku_record')
local skus = require('skus')
local waiting = require('waiting')
local pack = cmsgpack.pack

local RESTORED = {
  'numbers', 'places', 'totals', 'sum', 'queued', 'promised', 'filling', 'width', 'counters', 'modes', 'policies',
}

local function copy(record) return cmsgpack.unpack(pack(record)) end

local function saved_state(order)
  local saved = {o = order, order = copy(order.record), alerts = #alerts.list, logged = skus.log.size, skus = {}}
  for _, line in ipairs(order.record.lines) do
    local sku = skus.get(line.sku)
    if sku then saved.skus[#saved.skus + 1] = {sku, sku_record.pack(sku), sku.waits, modes.dwells_due[sku.name]} end
  end
  return saved
end

local function roll_back(saved)
  local order = saved.o
  order.record = saved.order
  order.record.lines, order.record.events = order.record.lines or {}, order.record.events or {}
  for _, line in ipairs(order.record.lines) do queue.note(order, line) end
  for _, entry in ipairs(saved.skus) do
    local sku = entry[1]
    local again = sku_record.read(sku.name, entry[2])
    for _, field in ipairs(RESTORED) do sku[field] = again[field] end
    sku.stored = nil -- `numbers` no longer tells what differs from the record in Redis
    sku.waits, modes.dwells_due[sku.name] = entry[3], entry[4]
  end
  for i = #alerts.list, saved.alerts + 1, -1 do alerts.list[i] = nil end
  for i = skus.log.size, saved.logged + 1, -1 do skus.log[i] = nil end
  skus.log.size = saved.logged
end

-- -> a refusal, or nil and the earlier order if it is a hold to cancel
local function superseded(command)
  local old = command.supersedes and command.supersedes ~= command.order_id and orders.get(command.supersedes)
  if not orders.is_placed(old) then return nil, nil end
  release.expire_if_due(old)
  if old.record.channel ~= command.channel then return O.CONFLICT, nil end
  if old.record.state == 'paid' or old.record.state == 'shipped' then return O.ALREADY_FINAL, nil end
  return nil, old.record.state == 'reserved' and old or nil
end

-- Decide the new order with the old hold's units available. -> outcome
local function decide(order, command)
  local refusal, old = superseded(command)
  if refusal then
    for _, line in ipairs(order.record.lines) do line.reason = refusal end
    return refusal
  end
  if not old then return place.decide(order, command) end
  orders.mark_changed(old)
  local saved = saved_state(old)
  batch.fills_wait = true
  release.cancel_unshipped(old, {'cancel', command.id, old})
  local outcome = place.decide(order, command)
  batch.fills_wait = false
  if order.record.state == 'rejected' then
    roll_back(saved)
  else
    for _, entry in ipairs(saved.skus) do
      if fill.is_due(entry[1]) then modes.refill(entry[1]) end
    end
    orders.include(old)
    waiting.settle(old)
  end
  return outcome
end

return {decide = decide}
