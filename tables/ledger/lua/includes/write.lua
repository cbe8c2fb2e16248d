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
local waiting = require('waiting')
local pack = cmsgpack.pack

local FINAL = {shipped = true, cancelled = true, expired = true, rejected = true}

local set, set_size, expiring, gone = {}, 0, {}, {}
local deadlines, dwells = {add = {}, drop = {}}, {add = {}, drop = {}}
local held, unheld = {}, {} -- by SKU
local new_skus, patched, whole = {}, {}, {}

-- Indexes: `deadlines`, and per SKU the open orders that hold units of it.
local function index_order(o)
  local r = o.r
  local due = not o.dropped and order_record.deadline(r) or nil
  if due ~= o.was_due then
    local list = due and deadlines.add or deadlines.drop
    if due then list[#list + 1] = due end
    list[#list + 1] = o.id
  end
  for _, line in ipairs(r.lines) do
    local holds, was = line.reserved and true or false, o.was_held[line.sku] or false
    if holds and not was then
      local list = held[line.sku]
      if list then
        list[#list + 1], list[#list + 2] = r.placed_at, o.id
      else
        held[line.sku] = {r.placed_at, o.id}
      end
    elseif was and not holds then
      local list = unheld[line.sku] or {}
      unheld[line.sku] = list
      list[#list + 1] = o.id
    end
  end
end

local function put(key, packed)
  set[set_size + 1], set[set_size + 2] = key, packed
  set_size = set_size + 2
end

-- Only the keys of final orders have a time to live, for answering repeats; it never ends a hold.
local function pack_order(o)
  local key = KEYS[1] .. 'order:' .. o.id
  if o.dropped then
    gone[#gone + 1] = key
    return
  end
  if FINAL[o.r.state] then o.r.ended_at = batch.now end -- retention counts from the newest change
  o.packed = order_record.pack(o.r)
  if FINAL[o.r.state] then
    local kept = o.r.state == 'rejected' and batch.limits.refused_retention_ms or batch.limits.order_retention_ms
    expiring[#expiring + 1] = {key, o.packed, kept}
  else
    put(key, o.packed)
  end
end

local function pack_sku(s)
  s.packed = sku_record.pack(s)
  put(KEYS[1] .. 'sku:' .. s.sku, s.packed)
  if s.is_new then new_skus[#new_skus + 1], new_skus[#new_skus + 2] = 0, s.sku end
end

local function pack_movement(m)
  if not m.changed or m.packed then return end
  if next(m.r.lines) == nil then m.r.lines = nil end
  m.packed = pack(m.r)
  expiring[#expiring + 1] = {KEYS[1] .. 'movement:' .. movements.key_of(m.warehouse, m.id), m.packed,
    batch.limits.movement_retention_ms}
end

local function pack_all()
  for _, o in ipairs(orders.changed) do
    if not o.replaced then
      index_order(o)
      waiting.index(o)
      pack_order(o)
    end
  end
  for _, s in ipairs(skus.changed) do pack_sku(s) end
  for sku, due in pairs(modes.dwells_due) do
    if due then
      dwells.add[#dwells.add + 1], dwells.add[#dwells.add + 2] = due, sku
    else
      dwells.drop[#dwells.drop + 1] = sku
    end
  end
  for _, m in ipairs(movements.included) do pack_movement(m) end
  if registry.changed then put(KEYS[1] .. 'registry', registry.packed()) end
end

local function note_patched(s) patched[#patched + 1], patched[#patched + 2] = 0, s.sku end
local function note_whole(s) whole[#whole + 1] = s.sku end

local function run()
  for _, key in ipairs(gone) do redis.call('DEL', key) end
  for _, entry in ipairs(expiring) do redis.call('SET', entry[1], entry[2], 'PX', entry[3]) end
  chunked.call('MSET', nil, set)
  chunked.call('ZADD', KEYS[1] .. 'skus', new_skus)
  indexes.write('deadlines', deadlines)
  indexes.write('dwells', dwells)
  waiting.write()
  for sku, ids in pairs(unheld) do chunked.call('ZREM', KEYS[1] .. 'held:' .. sku, ids) end
  for sku, ids in pairs(held) do chunked.call('ZADD', KEYS[1] .. 'held:' .. sku, ids) end
  -- The key rarely exists: EXISTS costs less than a ZREM of each SKU of each batch.
  if #whole > 0 and redis.call('EXISTS', KEYS[1] .. 'patched') == 1 then
    chunked.call('ZREM', KEYS[1] .. 'patched', whole)
  end
  chunked.call('ZADD', KEYS[1] .. 'patched', patched)
  for _, write in ipairs(batch.writers) do write() end
end

return {pack = pack_all, run = run, note_patched = note_patched, note_whole = note_whole}
