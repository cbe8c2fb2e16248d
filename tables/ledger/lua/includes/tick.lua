-- tick {orders_max}: end what is due by the ledger's time, and go on with moves, fills and promised dates. The step is
-- atomic, so any worker may run it. The detail is `patched` where `write_whole` has something to do.

local batch = require('batch')
local expected_tick = require('expected_tick')
local modes = require('modes')
local orders = require('orders')
local prefetch = require('prefetch')
local release = require('release')
local restate = require('restate')
local skus = require('skus')
local waiting = require('waiting')
local write = require('write')

local DUE_BYTES_MAX = 65536 -- 64 KiB of orders per step: about one order of the largest size
local PATCHED_BYTES_MAX = 1048576 -- 1 MiB of whole rows per step: some 10 ms

local function run(command)
  local due = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'deadlines', '-inf', batch.now, 'LIMIT', 0, command.orders_max)
  due = prefetch.names_within('order:', due, DUE_BYTES_MAX)
  local ended = 0
  prefetch.orders_named(due)
  for _, id in ipairs(due) do
    local order = orders.get(id)
    if orders.is_requested(order) and order.record.expires_at and batch.now >= order.record.expires_at then
      release.expire_if_due(order)
      orders.include(order)
      ended = ended + 1
    end
    if order and waiting.tick(order) then ended = ended + 1 end
  end
  local dwelling = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'dwells', '-inf', batch.now, 'LIMIT', 0, command.orders_max)
  dwelling = prefetch.names_within('sku:', dwelling, PATCHED_BYTES_MAX)
  prefetch.skus_named(dwelling)
  for _, sku_name in ipairs(dwelling) do
    local sku = skus.get(sku_name)
    if sku then sku.waits = true end
    if sku and sku.pool_times then require('pool_times').settle(sku) end
    if sku and modes.dwell_over(sku) then
      modes.touch(sku, {'dwell', '', sku_name})
    elseif sku then
      modes.note_dwells(sku)
    end
    ended = ended + 1
  end
  if redis.call('EXISTS', KEYS[1] .. 'fills') == 1 and modes.go_on_with_left_over() then ended = ended + 1 end
  if redis.call('EXISTS', KEYS[1] .. 'promises') == 1 then ended = ended + require('promises').go_on() end
  ended = ended + expected_tick.run(command.orders_max)
  local detail = redis.call('EXISTS', KEYS[1] .. 'patched') == 1 and 'patched' or nil
  return {outcome = ended == 0 and O.NOTHING_DUE or O.EXPIRED, detail = detail}
end

-- write_whole {skus_max}: whole rows of SKUs whose newest change is in the journal as a patch (includes/payload.lua).
local function write_whole(command)
  local patched = redis.call('ZRANGE', KEYS[1] .. 'patched', 0, command.skus_max - 1)
  if #patched == 0 then return {outcome = O.NOTHING_DUE} end
  patched = prefetch.names_within('sku:', patched, PATCHED_BYTES_MAX)
  prefetch.skus_named(patched)
  for _, sku_name in ipairs(patched) do
    if not restate.sku(sku_name) then write.note_whole({name = sku_name}) end -- a repair removed it
  end
  return {outcome = O.WRITTEN_WHOLE, detail = string.format('%d', #patched)}
end

return {run = run, write_whole = write_whole}
