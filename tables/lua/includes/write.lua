-- Write all that the batch changed, and build its payload from the same bytes (tables/records.py, Decision).
local FINAL = {shipped = true, cancelled = true, expired = true, rejected = true}

-- Index keys: deadlines, and per SKU the open orders that hold units of it.
local function index_order(o, deadlines, held)
  local r = o.r
  local due = not o.dropped and r.expires_at or nil
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

local function write_index(key, lists)
  call_many('ZREM', key, lists.drop)
  call_many('ZADD', key, lists.add)
end

-- Only final orders expire: the key's time to live answers repeats, it never ends a hold.
local function write_order(o, set)
  local key = KEYS[1] .. 'order:' .. o.id
  if o.dropped then
    redis.call('DEL', key)
    return
  end
  if is_empty(o.r.events) then o.r.events = nil end
  if FINAL[o.r.state] then o.r.ended_at = now end -- its retention counts from its newest change
  o.packed = pack(o.r)
  if FINAL[o.r.state] then
    local kept = o.r.state == 'rejected' and limits.refused_retention_ms or limits.order_retention_ms
    redis.call('SET', key, o.packed, 'PX', kept)
  else
    set[#set + 1], set[#set + 2] = key, o.packed
  end
end

local function write_orders(set)
  local deadlines, held = {add = {}, drop = {}}, {}
  for _, o in ipairs(orders_changed) do
    if not o.replaced then
      index_order(o, deadlines, held)
      write_order(o, set)
    end
  end
  write_index(KEYS[1] .. 'deadlines', deadlines)
  for sku, lists in pairs(held) do write_index(KEYS[1] .. 'held:' .. sku, lists) end
end

local MAPS = {'counters', 'warehouses', 'modes', 'policies'} -- of a SKU; an empty one would be packed as an array

local function write_skus(set)
  local new, dwells = {}, {add = {}, drop = {}}
  for _, s in ipairs(sku_order) do
    if s.history_changed then s.r.history = history_text(s) end
    for i = 1, #MAPS do
      if is_empty(s.r[MAPS[i]]) then s.r[MAPS[i]] = nil end
    end
    s.packed = pack(s.r)
    set[#set + 1], set[#set + 2] = KEYS[1] .. 'sku:' .. s.sku, s.packed
    if s.is_new then new[#new + 1], new[#new + 2] = 0, s.sku end
  end
  for sku, due in pairs(dwells_due) do
    if due then
      dwells.add[#dwells.add + 1], dwells.add[#dwells.add + 2] = due, sku
    else
      dwells.drop[#dwells.drop + 1] = sku
    end
  end
  call_many('ZADD', KEYS[1] .. 'skus', new)
  write_index(KEYS[1] .. 'dwells', dwells)
end

local function write_movements()
  for _, m in ipairs(movements_asked) do
    if m.changed and not m.packed then
      if is_empty(m.r.lines) then m.r.lines = nil end
      m.packed = pack(m.r)
      local key = KEYS[1] .. 'movement:' .. movement_key(m.warehouse, m.id)
      redis.call('SET', key, m.packed, 'PX', limits.movement_retention_ms)
    end
  end
end
