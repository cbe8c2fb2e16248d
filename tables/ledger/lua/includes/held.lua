-- The index `held:<sku>`: the open orders with held units of a SKU, those that are to be safe first: VIP orders, then
-- the oldest (`orders.hold_place`).

local batch = require('batch')
local orders = require('orders')

local PAGE = 64 -- entries per read: most shortfalls concern few orders

local function is_before(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end

-- The rank of the first entry of an index after {place, id}, which may be gone.
local function rank_after(key, place, id)
  local rank = redis.call('ZRANK', key, id)
  if rank then return rank + 1 end
  local score = string.format('%.0f', place)
  local low, high = redis.call('ZCOUNT', key, '-inf', '(' .. score), redis.call('ZCOUNT', key, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if redis.call('ZRANGE', key, middle, middle)[1] > id then high = middle else low = middle + 1 end
  end
  return low
end

-- The entries after {place, id} that this batch adds to the index.
local function added_after(sku, place, id)
  local added, from = {}, {place, id}
  for _, order in ipairs(orders.changed) do
    local line = not order.replaced and not order.dropped and orders.line_of(order, sku.name)
    if line and line.reserved and not order.was_held[sku.name] then
      local entry = {orders.hold_place(order.record), order.id}
      if is_before(from, entry) then added[#added + 1] = entry end
    end
  end
  table.sort(added, is_before)
  return added
end

-- A function that gives the entries after {place, id} one by one, {place, order_id}; nil at the end. Orders that hold
-- nothing any more may be among them.
local function reader(sku, place, id)
  local key = KEYS[1] .. 'held:' .. sku.name
  local rank, added, page, at, added_at = rank_after(key, place, id), added_after(sku, place, id), {}, 1, 1
  local has_more = true
  return function()
    if has_more and not page[at] then
      page, at, rank = redis.call('ZRANGE', key, rank, rank + PAGE - 1, 'WITHSCORES'), 1, rank + PAGE
      has_more = #page == 2 * PAGE
    end
    local stored = page[at] and {tonumber(page[at + 1]), page[at]}
    local new = added[added_at]
    if new and (not stored or is_before(new, stored)) then
      added_at = added_at + 1
      return new
    end
    at = at + 2
    return stored
  end
end

local restated = {} -- {order, SKU}, …

-- Write the entry of an order again: an older release placed all orders by their time alone.
local function restate(order, sku_name) restated[#restated + 1] = {order, sku_name} end

batch.writers[#batch.writers + 1] = function()
  for _, each in ipairs(restated) do
    local order, sku_name = each[1], each[2]
    if orders.line_of(order, sku_name).reserved then
      redis.call('ZADD', KEYS[1] .. 'held:' .. sku_name, orders.hold_place(order.record), order.id)
    end
  end
end

return {reader = reader, restate = restate}
