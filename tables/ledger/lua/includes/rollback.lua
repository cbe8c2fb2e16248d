-- Take back changes of an order that a later decision of the same command refuses.

local alerts = require('alerts')
local modes = require('modes')
local orders = require('orders')
local queue = require('queue')
local sku_record = require('sku_record')
local skus = require('skus')
local pack = cmsgpack.pack

local RESTORED = {
  'numbers', 'places', 'totals', 'sum', 'queued', 'promised', 'filling', 'rerouting', 'width', 'counters', 'modes',
  'policies', 'pool_times',
}

local function copy(record) return cmsgpack.unpack(pack(record)) end

-- The state of an order and of the SKUs of `lines`, before the changes that may have to be taken back.
local function save(order, lines)
  local saved = {o = order, order = copy(order.record), alerts = #alerts.list, logged = skus.log.size, skus = {}}
  for _, line in ipairs(lines) do
    local sku = skus.get(line.sku)
    if sku then
      local packed = sku_record.pack(sku)
      saved.skus[#saved.skus + 1] = {sku, packed, sku.waits, modes.dwells_due[sku.name], sku.logged_from}
    end
  end
  return saved
end

local function restore(saved)
  local order = saved.o
  order.record = saved.order
  order.record.lines, order.record.events = order.record.lines or {}, order.record.events or {}
  for _, line in ipairs(order.record.lines) do queue.note(order, line) end
  orders.note_unpaid(order)
  for _, entry in ipairs(saved.skus) do
    local sku = entry[1]
    local again = sku_record.read(sku.name, entry[2])
    for _, field in ipairs(RESTORED) do sku[field] = again[field] end
    sku.stored = nil -- `numbers` no longer tells what differs from the record in Redis
    sku.waits, modes.dwells_due[sku.name], sku.logged_from = entry[3], entry[4], entry[5]
  end
  for i = #alerts.list, saved.alerts + 1, -1 do alerts.list[i] = nil end
  for i = skus.log.size, saved.logged + 1, -1 do skus.log[i] = nil end
  skus.log.size = saved.logged
end

return {save = save, restore = restore}
