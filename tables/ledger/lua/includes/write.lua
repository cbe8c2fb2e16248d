-- The writes of a batch in two steps: `writing.pack` packs each record once and collects the writes, so that the
-- payload is built from the same bytes and its size is known; `writing.run` writes, and nothing is refused after that.
-- The index `patched` holds the SKUs whose newest change is in the journal as a patch.
local FINAL = {shipped = true, cancelled = true, expired = true, rejected = true}
local writing = {}
do

local set, set_size, expiring, gone = {}, 0, {}, {}
local deadlines, dwells, waits = {add = {}, drop = {}}, {add = {}, drop = {}}, {add = {}, drop = {}}
local held, unheld = {}, {} -- by SKU
local new_skus, patched, whole = {}, {}, {}
local changed = {} -- {key, offset, bytes}
local wide_bytes = 0 -- of whole rows of SKUs in many warehouses

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
  if FINAL[o.r.state] then o.r.ended_at = now end -- retention counts from the newest change
  o.packed = order_record.pack(o.r)
  if FINAL[o.r.state] then
    local kept = o.r.state == 'rejected' and limits.refused_retention_ms or limits.order_retention_ms
    expiring[#expiring + 1] = {key, o.packed, kept}
  else
    put(key, o.packed)
  end
end

local function pack_sku(s)
  local key = KEYS[1] .. 'sku:' .. s.sku
  if s.stored and not (s.logged_from or s.carried) then
    s.packed = s.stored -- restated
    return
  end
  local is_patched = s.stored and not s.must_be_whole and wide_bytes + #s.stored > limits.wide_rows_bytes_max
  local list = is_patched and sku_record.changes(s)
  if list then
    for i = 1, #list, 2 do changed[#changed + 1] = {key, list[i], list[i + 1]} end
    return
  end
  local packed = sku_record.pack(s)
  put(key, packed)
  if is_patched then return end
  s.packed = packed
  if s.totals then wide_bytes = wide_bytes + #packed end
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
  if registry_changed then put(KEYS[1] .. 'registry', packed_registry()) end
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
  for _, entry in ipairs(changed) do redis.call('SETRANGE', entry[1], entry[2], entry[3]) end
  call_many('ZADD', KEYS[1] .. 'skus', new_skus)
  writing.index('deadlines', deadlines)
  writing.index('dwells', dwells)
  waiting.write_total()
  writing.index('waiting', waits)
  for sku, ids in pairs(unheld) do call_many('ZREM', KEYS[1] .. 'held:' .. sku, ids) end
  for sku, ids in pairs(held) do call_many('ZADD', KEYS[1] .. 'held:' .. sku, ids) end
  -- The key rarely exists: EXISTS costs less than a ZREM of each SKU of each batch.
  if #whole > 0 and redis.call('EXISTS', KEYS[1] .. 'patched') == 1 then
    call_many('ZREM', KEYS[1] .. 'patched', whole)
  end
  call_many('ZADD', KEYS[1] .. 'patched', patched)
end

end
