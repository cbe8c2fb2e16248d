-- The writes of a batch in two steps: `writing.pack` packs each record once and collects the writes, so that the
-- payload is built from the same bytes and its size is known; `writing.run` writes, and nothing is refused after that.
-- The index `patched` holds the SKUs whose newest change is in the journal as a patch.
local FINAL = {shipped = true, cancelled = true, expired = true, rejected = true}
local writing = {}
do

local set, expiring, gone = {}, {}, {}
local deadlines, dwells, waits, held = {add = {}, drop = {}}, {add = {}, drop = {}}, {add = {}, drop = {}}, {}
local new_skus, patched, whole = {}, {}, {}

-- Indexes: `deadlines`, and per SKU the open orders that hold units of it.
local function index_order(o)
  local r = o.r
  local due = not o.dropped and waiting.deadline(r) or nil
  if due ~= o.was_due then
    local list = due and deadlines.add or deadlines.drop
    if due then list[#list + 1] = due end
    list[#list + 1] = o.id
  end
  for _, line in ipairs(r.lines) do
    local holds, was = line.reserved and true or false, o.was_held[line.sku] or false
    if holds ~= was then
      local of_sku = held[line.sku] or {add = {}, drop = {}}
      held[line.sku] = of_sku
      local list = holds and of_sku.add or of_sku.drop
      if holds then list[#list + 1] = r.placed_at end
      list[#list + 1] = o.id
    end
  end
end

-- Only the keys of final orders have a time to live, for answering repeats; it never ends a hold.
local function pack_order(o)
  local key = KEYS[1] .. 'order:' .. o.id
  if o.dropped then
    gone[#gone + 1] = key
    return
  end
  if is_empty(o.r.events) then o.r.events = nil end
  if FINAL[o.r.state] then o.r.ended_at = now end -- retention counts from the newest change
  o.packed = pack(o.r)
  if FINAL[o.r.state] then
    local kept = o.r.state == 'rejected' and limits.refused_retention_ms or limits.order_retention_ms
    expiring[#expiring + 1] = {key, o.packed, kept}
  else
    set[#set + 1], set[#set + 2] = key, o.packed
  end
end

local MAPS = {'counters', 'warehouses', 'modes', 'policies'} -- of a SKU; an empty table would be packed as an array

local function pack_sku(s)
  for i = 1, #MAPS do
    if is_empty(s.r[MAPS[i]]) then s.r[MAPS[i]] = nil end
  end
  s.packed = pack(s.r)
  for i = 1, #MAPS do s.r[MAPS[i]] = s.r[MAPS[i]] or {} end
  set[#set + 1], set[#set + 2] = KEYS[1] .. 'sku:' .. s.sku, s.packed
  if s.is_new then new_skus[#new_skus + 1], new_skus[#new_skus + 2] = 0, s.sku end
end

local function pack_movement(m)
  if not m.changed or m.packed then return end
  if is_empty(m.r.lines) then m.r.lines = nil end
  m.packed = pack(m.r)
  expiring[#expiring + 1] = {KEYS[1] .. 'movement:' .. movement_key(m.warehouse, m.id), m.packed,
    limits.movement_retention_ms}
end

function writing.pack()
  for _, o in ipairs(orders_changed) do
    if not o.replaced then
      index_order(o)
      waiting.index(o, waits)
      pack_order(o)
    end
  end
  for _, s in ipairs(sku_order) do pack_sku(s) end
  for sku, due in pairs(dwells_due) do
    if due then
      dwells.add[#dwells.add + 1], dwells.add[#dwells.add + 2] = due, sku
    else
      dwells.drop[#dwells.drop + 1] = sku
    end
  end
  for _, m in ipairs(movements_included) do pack_movement(m) end
  if registry_changed then set[#set + 1], set[#set + 2] = KEYS[1] .. 'registry', packed_registry() end
end

function writing.note_patched(s) patched[#patched + 1], patched[#patched + 2] = 0, s.sku end
function writing.note_whole(s) whole[#whole + 1] = s.sku end

function writing.index(name, lists)
  call_many('ZREM', KEYS[1] .. name, lists.drop)
  call_many('ZADD', KEYS[1] .. name, lists.add)
end

function writing.run()
  for _, key in ipairs(gone) do redis.call('DEL', key) end
  for _, entry in ipairs(expiring) do redis.call('SET', entry[1], entry[2], 'PX', entry[3]) end
  call_many('MSET', nil, set)
  call_many('ZADD', KEYS[1] .. 'skus', new_skus)
  writing.index('deadlines', deadlines)
  writing.index('dwells', dwells)
  waiting.write_total()
  writing.index('waiting', waits)
  for sku, lists in pairs(held) do writing.index('held:' .. sku, lists) end
  -- The key rarely exists: EXISTS costs less than a ZREM of each SKU of each batch.
  if #whole > 0 and redis.call('EXISTS', KEYS[1] .. 'patched') == 1 then
    call_many('ZREM', KEYS[1] .. 'patched', whole)
  end
  call_many('ZADD', KEYS[1] .. 'patched', patched)
end

end
