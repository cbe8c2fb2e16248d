-- Read one value with the newest batch and the newest settled batch: the caller waits if they differ.
--
-- KEYS[1]  the shard's key prefix
-- ARGV[1]  what: `order`, `movement`, `sku`, `channel`, `skus`, `known`, `policy`, `registry`, `expected`, `pools`,
--          `approvals`, `stock`
--          `orders`, `short`, `at_risk`, `queue`: pages of orders (includes/order_pages.lua)
-- ARGV[2]  order: order_id | movement: warehouse | sku: sku | channel, skus, policy: channel | known: cursor
--          expected: warehouse or '' | pools: `[` and the first sku, or `(` and the one before it
--          stock: the lower bound of the names, or ''
--          orders: the server's run_id or '' | short, at_risk: the first sku | queue: sku
--          approvals: cursor (the last order_id of the previous page, or '')
-- ARGV[3]  movement: id | channel: cursor (the last sku of the previous page, or '') | known, pools, approvals: limit
--          stock: their upper bound, or ''
--          policy: sku or '' | skus: the first of the SKUs, which take all arguments from here | expected: sku or ''
--          orders: cursor of SCAN, keys, then order_ids to read instead | short, at_risk: 'all' or '' (that sku alone),
--          score, order_id, limit | queue: score, order_id, limit
-- ARGV[4]  channel, stock: limit | expected: '', 'true' or 'false': whether they are overdue
-- ARGV[5]  stock: without bounds the SKUs, which take all arguments from here
--          expected: cursor (`<warehouse>\n<id>`, the last one that the previous page looked at, or '')
-- ARGV[6]  expected: limit
-- returns  {batch, token, settled batch, value}; value is msgpack, or false if there is none
--          sku: [record, offers]   channel, skus: [[sku, version, at, offer], …]
--          policy: [own or nil, effective, digest of the first]
--          known: [number of known SKUs, a page of their names]   expected: [cursor or '', [[key, record], …]]
--          pools: [[[sku, {<purpose>@<warehouse>: [units, from, until]}], …], whether more SKUs follow]
--          approvals: [[[order_id, order], …], whether more orders follow]
--          stock: [[[sku, [record, offers]], …], the last name looked at, or '' if none follows]
--          orders, short, at_risk, queue: see includes/order_pages.lua
-- error    UNBLESSED: no takeover blessed this server

local announced = require('announced')
local msgpack = require('msgpack')
local offer = require('offer')
local registry = require('registry')
local server = require('server')
local skus = require('skus')
local pack = cmsgpack.pack

-- tables/ledger/records.py, Offer
local function offer_to(sku, channel, policy)
  local mode, quantity, remaining = offer.of(sku, channel, policy)
  local date = mode == 'preorder' and sku.announced and announced.next_date(sku, policy)
  if date then return {channel, mode, quantity, remaining, policy.publish_interval_ms or 0, date} end
  return {channel, mode, quantity, remaining}
end

local function read_sku(sku_name)
  local sku = skus.get(sku_name)
  if not sku then return false end
  local offers = {}
  for i, channel in ipairs(registry.names) do
    local policy = registry.policy_of(sku, channel)
    offers[i] = offer_to(sku, channel, policy)
    if not offers[i][6] then offers[i][5] = policy.publish_interval_ms end
  end
  return MSGPACK.ARRAY_2 .. redis.call('GET', KEYS[1] .. 'sku:' .. sku_name) .. pack(offers)
end

local function offers_on(channel, names)
  local rows = {}
  for _, sku_name in ipairs(names) do
    local sku = skus.get(sku_name)
    if sku then
      local numbers, policy = sku.numbers, registry.policy_of(sku, channel)
      rows[#rows + 1] = {sku_name, numbers[SKU.version], numbers[SKU.at], offer_to(sku, channel, policy)}
    end
  end
  return pack(rows)
end

local function page_of(cursor, limit, index)
  local from = cursor == '' and '-' or '(' .. cursor
  return redis.call('ZRANGEBYLEX', KEYS[1] .. (index or 'skus'), from, '+', 'LIMIT', 0, limit)
end

local function read_policy(channel, sku_name)
  local own, effective = registry.own_of(channel, sku_name), nil
  if sku_name == '' then
    local known = registry.channels[channel]
    effective = registry.merged(known and known.policy)
  else
    effective = registry.policy_of(skus.get(sku_name) or skus.new(sku_name), channel)
  end
  return MSGPACK.ARRAY_3 .. pack(own) .. pack(effective) .. pack(require('policy_digest').of(own))
end

local STOCK_BYTES_MAX = 1048576 -- 1 MiB of records per page: some 10 ms
local STOCK_OFFERS_MAX = 10000 -- of a page to all channels: some 10 ms

-- SKUs between two bounds, or `names`; at least one.
local function read_stock(from, to, limit, names)
  if from ~= '' then names = redis.call('ZRANGEBYLEX', KEYS[1] .. 'skus', from, to, 'LIMIT', 0, limit + 1) end
  local rows, bytes, looked = {}, 0, 0
  for _, name in ipairs(names) do
    local is_full = bytes > STOCK_BYTES_MAX or looked * #registry.names > STOCK_OFFERS_MAX
    if looked == limit or (looked > 0 and is_full) then
      return MSGPACK.ARRAY_2 .. msgpack.array(rows) .. pack(names[looked])
    end
    looked, bytes = looked + 1, bytes + redis.call('STRLEN', KEYS[1] .. 'sku:' .. name)
    local found = read_sku(name)
    if found then rows[#rows + 1] = MSGPACK.ARRAY_2 .. pack(name) .. found end
  end
  return MSGPACK.ARRAY_2 .. msgpack.array(rows) .. pack('')
end

local POOLS_BYTES_MAX = 1048576 -- 1 MiB of records per page: some 10 ms

-- The pools of a SKU that have not ended.
local function pools_of(sku)
  local pools = {}
  for counter, units in pairs(sku.counters or {}) do
    if string.sub(counter, 1, 9) == 'reserved#' then pools[string.sub(counter, 10)] = {units, 0, 0} end
  end
  for name, times in pairs(sku.pool_times or {}) do
    if times[1] >= 0 then pools[name] = {pools[name] and pools[name][1] or 0, times[1], times[2]} end
  end
  return pools
end

-- SKUs from `bound` on, until they have `limit` pools.
local function read_pools(bound, limit)
  local names = redis.call('ZRANGEBYLEX', KEYS[1] .. 'pools', bound, '+', 'LIMIT', 0, limit + 1)
  local rows, count, bytes = {}, 0, 0
  for _, name in ipairs(names) do
    if count >= limit or bytes > POOLS_BYTES_MAX then return pack({rows, true}) end
    bytes = bytes + redis.call('STRLEN', KEYS[1] .. 'sku:' .. name)
    local sku = skus.get(name)
    local pools = sku and pools_of(sku) or {}
    for _ in pairs(pools) do count = count + 1 end
    if next(pools) ~= nil then rows[#rows + 1] = {name, pools} end
  end
  return pack({rows, false})
end

local APPROVALS_BYTES_MAX = 1048576 -- 1 MiB of records per page: some ms

-- Orders that wait for approval, after `cursor`.
local function read_approvals(cursor, limit)
  local rows, bytes = {}, 0
  for _, id in ipairs(page_of(cursor, limit + 1, 'approvals')) do
    if #rows == limit or bytes > APPROVALS_BYTES_MAX then
      return MSGPACK.ARRAY_2 .. msgpack.array(rows) .. MSGPACK.TRUE
    end
    local packed = redis.call('GET', KEYS[1] .. 'order:' .. id)
    if packed then
      rows[#rows + 1], bytes = MSGPACK.ARRAY_2 .. pack(id) .. packed, bytes + #packed
    end
  end
  return MSGPACK.ARRAY_2 .. msgpack.array(rows) .. MSGPACK.FALSE
end

local function read(what)
  if what == 'order' then return redis.call('GET', KEYS[1] .. 'order:' .. ARGV[2]) end
  if what == 'movement' then return redis.call('GET', KEYS[1] .. 'movement:' .. ARGV[2] .. '\n' .. ARGV[3]) end
  if what == 'known' then return pack({redis.call('ZCARD', KEYS[1] .. 'skus'), page_of(ARGV[2], ARGV[3])}) end
  if what == 'expected' then return require('expected_page').read(unpack(ARGV, 2, 6)) end
  if what == 'approvals' then return read_approvals(ARGV[2], tonumber(ARGV[3])) end
  if what == 'pools' then return read_pools(ARGV[2], tonumber(ARGV[3])) end
  if what == 'orders' then return require('order_pages').all(ARGV[2], ARGV[3], ARGV[4], {unpack(ARGV, 5)}) end
  if what == 'short' or what == 'at_risk' then
    return require('order_pages').of_skus(what, ARGV[2], ARGV[3] == 'all', ARGV[4], ARGV[5], tonumber(ARGV[6]))
  end
  if what == 'queue' then return require('order_pages').of_queue(ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])) end
  registry.load()
  if what == 'registry' then return registry.packed() end
  if what == 'sku' then return read_sku(ARGV[2]) end
  if what == 'stock' then return read_stock(ARGV[2], ARGV[3], tonumber(ARGV[4]), {unpack(ARGV, 5)}) end
  if what == 'channel' then return offers_on(ARGV[2], page_of(ARGV[3], ARGV[4])) end
  if what == 'skus' then return offers_on(ARGV[2], {unpack(ARGV, 3)}) end
  if what == 'policy' then return read_policy(ARGV[2], ARGV[3]) end
  error('unknown read ' .. what)
end

if not server.is_blessed(KEYS[1]) then return redis.error_reply('UNBLESSED no takeover blessed this server') end
local head = redis.call('HMGET', KEYS[1] .. 'head', 'batch', 'token')
local settled = redis.call('HGET', KEYS[1] .. 'settled', 'batch')
return {head[1] or '0', head[2] or '', settled or '0', read(ARGV[1])}
