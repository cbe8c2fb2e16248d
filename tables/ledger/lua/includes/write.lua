-- The writes of a batch in two steps: `write.pack` packs each record once and collects the writes, so that the
-- payload is built from the same bytes and its size is known; `write.run` writes, and nothing is refused after that.
-- The index `patched` holds the SKUs whose newest change is in the journal as a patch.

local batch = require('batch')
local chunked = require('chunked')
local indexes = require('indexes')
local modes = require('modes')
local movements = require('movements')
local order_record = require('order_record')
local orders = require('orders')
local registry = require('registry')
local sku_record = require('sku_record')
local skus = require('skus')
local pack = cmsgpack.pack

local FINAL = {shipped = true, cancelled = true, expired = true, rejected = true}

local set, set_size, expiring, gone = {}, 0, {}, {}
local deadlines, dwells = {add = {}, drop = {}}, {add = {}, drop = {}}
local held, unheld = {}, {} -- by SKU
local new_skus, patched, whole = {}, {}, {}
local pools = {add = {}, drop = {}} -- the SKUs with pools
local changed = {} -- {key, offset, bytes}
local wide_bytes = 0 -- of whole rows of SKUs in many warehouses

-- Indexes: `deadlines`, and per SKU the open orders that hold units of it.
local function index_order(order)
  local record = order.record
  local due = not order.dropped and order_record.deadline(record) or nil
  if due ~= order.was_due then
    local list = due and deadlines.add or deadlines.drop
    if due then list[#list + 1] = due end
    list[#list + 1] = order.id
  end
  for i = 1, #record.lines do
    local line = record.lines[i]
    local holds, was = line.reserved and true or false, order.was_held[line.sku] or false
    if holds and not was then
      local list = held[line.sku]
      if list then
        list[#list + 1], list[#list + 2] = orders.hold_place(record), order.id
      else
        held[line.sku] = {orders.hold_place(record), order.id}
      end
    elseif was and not holds then
      local list = unheld[line.sku] or {}
      unheld[line.sku] = list
      list[#list + 1] = order.id
    end
  end
end

local function put(key, packed)
  set[set_size + 1], set[set_size + 2] = key, packed
  set_size = set_size + 2
end

-- Only the keys of final orders have a time to live, for answering repeats; it never ends a hold.
local function pack_order(order)
  local key = KEYS[1] .. 'order:' .. order.id
  if order.dropped then
    gone[#gone + 1] = key
    return
  end
  if FINAL[order.record.state] then order.record.ended_at = batch.now end -- retention counts from the newest change
  order.packed = order_record.pack(order.record)
  if FINAL[order.record.state] then
    local limits = batch.limits
    local kept = order.record.state == 'rejected' and limits.refused_retention_ms or limits.order_retention_ms
    expiring[#expiring + 1] = {key, order.packed, kept}
  else
    put(key, order.packed)
  end
end

local function pack_sku(sku)
  local key = KEYS[1] .. 'sku:' .. sku.name
  if sku.stored and not (sku.logged_from or sku.carried) then
    sku.packed = sku.stored -- restated
    return
  end
  local is_patched = sku.stored and not sku.must_be_whole
    and wide_bytes + #sku.stored > batch.limits.wide_rows_bytes_max
  local list = is_patched and sku_record.changes(sku)
  if list then
    for i = 1, #list, 2 do changed[#changed + 1] = {key, list[i], list[i + 1]} end
    return
  end
  local packed = sku_record.pack(sku)
  put(key, packed)
  if is_patched then return end
  sku.packed = packed
  if sku.totals then wide_bytes = wide_bytes + #packed end
  if sku.is_new then new_skus[#new_skus + 1], new_skus[#new_skus + 2] = 0, sku.name end
end

local function index_pools(sku)
  local list = sku_record.has_pools(sku) and pools.add or pools.drop
  if list == pools.add then list[#list + 1] = 0 end
  list[#list + 1] = sku.name
end

local function pack_movement(movement)
  if not movement.changed or movement.packed then return end
  if next(movement.record.lines) == nil then movement.record.lines = nil end
  movement.packed = pack(movement.record)
  local key = KEYS[1] .. 'movement:' .. movements.key_of(movement.warehouse, movement.id)
  if movement.record.eta and require('announcements').is_open(movement.record) then
    put(key, movement.packed)
  else
    expiring[#expiring + 1] = {key, movement.packed, batch.limits.movement_retention_ms}
  end
end

local function pack_all()
  for i = 1, #orders.changed do
    local order = orders.changed[i]
    if not order.replaced then
      index_order(order)
      if order.record.parked or (order.was_waiting or 0) ~= 0 then require('waiting').index(order) end
      pack_order(order)
    end
  end
  for i = 1, #skus.changed do
    local sku = skus.changed[i]
    if sku.pools_changed then index_pools(sku) end
    pack_sku(sku)
  end
  for sku_name, due in pairs(modes.dwells_due) do
    if due then
      dwells.add[#dwells.add + 1], dwells.add[#dwells.add + 2] = due, sku_name
    else
      dwells.drop[#dwells.drop + 1] = sku_name
    end
  end
  for _, movement in ipairs(movements.included) do pack_movement(movement) end
  if registry.changed then put(KEYS[1] .. 'registry', registry.packed()) end
end

local function note_patched(sku) patched[#patched + 1], patched[#patched + 2] = 0, sku.name end
local function note_whole(sku) whole[#whole + 1] = sku.name end

local function run()
  for _, key in ipairs(gone) do redis.call('DEL', key) end
  for _, entry in ipairs(expiring) do redis.call('SET', entry[1], entry[2], 'PX', entry[3]) end
  chunked.call('MSET', nil, set)
  for _, entry in ipairs(changed) do redis.call('SETRANGE', entry[1], entry[2], entry[3]) end
  chunked.call('ZADD', KEYS[1] .. 'skus', new_skus)
  indexes.write('deadlines', deadlines)
  indexes.write('dwells', dwells)
  indexes.write('pools', pools)
  for sku_name, ids in pairs(unheld) do chunked.call('ZREM', KEYS[1] .. 'held:' .. sku_name, ids) end
  for sku_name, ids in pairs(held) do chunked.call('ZADD', KEYS[1] .. 'held:' .. sku_name, ids) end
  -- The key rarely exists: EXISTS costs less than a ZREM of each SKU of each batch.
  if #whole > 0 and redis.call('EXISTS', KEYS[1] .. 'patched') == 1 then
    chunked.call('ZREM', KEYS[1] .. 'patched', whole)
  end
  chunked.call('ZADD', KEYS[1] .. 'patched', patched)
  for _, write in ipairs(batch.writers) do write() end
end

return {pack = pack_all, run = run, note_patched = note_patched, note_whole = note_whole}
