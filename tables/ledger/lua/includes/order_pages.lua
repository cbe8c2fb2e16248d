-- Pages of orders: of all keys, of the SKUs whose orders are short or at risk, and of the queue of one SKU. Each call
-- does a bounded part, and returns where the next one goes on. An entry of a sorted set is {score, order_id, score as
-- text}. A page goes on after an entry (score as text, order_id), which may be gone: then those with the same score may
-- come twice.

local msgpack = require('msgpack')
local queue = require('queue')
local server = require('server')
local skus = require('skus')
local pack = cmsgpack.pack

local ORDERS_BYTES_MAX = 524288 -- 512 KiB of records of orders per call: some 3 ms
local SKUS_MAX = 500 -- examined per call: some 5 ms
local WAREHOUSES_MAX = 4000 -- of these SKUs: some 8 ms
local ENTRIES_MAX = 1000 -- of the queues of one SKU over all channels: some 2 ms

local bytes = 0 -- of the records that were read

-- -> {[order_id, record], …} as msgpack, how many of `ids` were read
local function rows_of(ids)
  local rows = {}
  for i, id in ipairs(ids) do
    if bytes > ORDERS_BYTES_MAX then return rows, i - 1 end
    local packed = redis.call('GET', KEYS[1] .. 'order:' .. id)
    if packed then rows[#rows + 1], bytes = MSGPACK.ARRAY_2 .. pack(id) .. packed, bytes + #packed end
  end
  return rows, #ids
end

-- The orders `ids`, or without them those among the next keys after `cursor`, which is of the server `run_id`: on
-- another one the pass begins again. -> msgpack [run_id, cursor ('0': the end), [[order_id, record], …], [ids left]]
local function all(run_id, cursor, count, ids)
  local own_id, prefix = server.ids(), KEYS[1] .. 'order:'
  if run_id ~= own_id then cursor = '0' end
  if #ids == 0 then
    local page = redis.call('SCAN', cursor, 'MATCH', prefix .. '*', 'COUNT', count)
    cursor = page[1]
    for i, key in ipairs(page[2]) do ids[i] = string.sub(key, #prefix + 1) end
  end
  local rows, read = rows_of(ids)
  local left = {}
  for i = read + 1, #ids do left[#left + 1] = ids[i] end
  return MSGPACK.ARRAY_4 .. pack(own_id) .. pack(cursor) .. msgpack.array(rows) .. pack(left)
end

-- Up to `count` entries of a sorted set after one of them ('' from the start).
local function entries_after(key, score, id, count)
  local from = 0
  if score ~= '' then
    local is_there = redis.call('ZSCORE', key, id) == score
    from = is_there and redis.call('ZRANK', key, id) + 1 or redis.call('ZCOUNT', key, '-inf', '(' .. score)
  end
  local stored, entries = redis.call('ZRANGE', key, from, from + count - 1, 'WITHSCORES'), {}
  for i = 1, #stored, 2 do entries[#entries + 1] = {tonumber(stored[i + 1]), stored[i], stored[i + 1]} end
  return entries
end

local function queued_channels(sku)
  local seen, channels = {}, {}
  for counter in pairs(sku.counters or {}) do
    local kind, channel = string.match(counter, '^(%a+)@(.*)$')
    if (kind == 'short' or kind == 'preordered') and not seen[channel] then
      seen[channel], channels[#channels + 1] = true, channel
    end
  end
  return channels
end

-- Up to `count` entries of the queue of a SKU, over all channels. -> them, whether others follow
local function queue_entries(sku, score, id, count)
  local channels, entries, bound = queued_channels(sku), {}, nil
  local each = math.max(1, math.min(count, math.floor(ENTRIES_MAX / math.max(1, #channels))))
  for _, channel in ipairs(channels) do
    local own = entries_after(KEYS[1] .. 'queue:' .. sku.name .. '\n' .. channel, score, id, each)
    local last = #own == each and own[each] -- others of this channel may follow
    if last and (not bound or queue.is_before(last, bound)) then bound = last end
    for _, entry in ipairs(own) do entries[#entries + 1] = entry end
  end
  table.sort(entries, queue.is_before)
  for i, entry in ipairs(entries) do
    if i > count or (bound and queue.is_before(bound, entry)) then return {unpack(entries, 1, i - 1)}, true end
  end
  return entries, bound ~= nil
end

local function short_entries(sku, score, id, count)
  local entries, more = queue_entries(sku, score, id, count)
  for i, entry in ipairs(entries) do
    if not queue.is_short(entry[1]) then return {unpack(entries, 1, i - 1)}, false, {} end
  end
  return entries, more, {}
end

local function warehouses_below_zero(sku)
  local names = {}
  for _, warehouse in ipairs(sku.places.names) do
    if skus.free_of(sku, warehouse) < 0 then names[#names + 1] = warehouse end
  end
  return names
end

-- The orders that hold units of a SKU with a warehouse below zero. -> the same, and these warehouses
local function entries_at_risk(sku, score, id, count)
  local warehouses = warehouses_below_zero(sku)
  if #warehouses == 0 then return {}, false, warehouses end
  local entries = entries_after(KEYS[1] .. 'held:' .. sku.name, score, id, count)
  return entries, #entries == count, warehouses
end

local ENTRIES = {short = short_entries, at_risk = entries_at_risk}

-- The rows of `entries`. -> them, and the last entry that was read if others follow
local function rows_of_entries(entries, more)
  local ids = {}
  for i, entry in ipairs(entries) do ids[i] = entry[2] end
  local rows, read = rows_of(ids)
  return rows, (more or read < #ids) and entries[read]
end

local function names_from(first, is_all)
  if not is_all then return {first} end
  local from = first == '' and '-' or '[' .. first
  return redis.call('ZRANGEBYLEX', KEYS[1] .. 'skus', from, '+', 'LIMIT', 0, SKUS_MAX + 1)
end

-- Orders that are `short` or `at_risk`, SKU by SKU from `first` on, or of that one alone; those of `first` after an
-- entry. -> msgpack [[[sku, [warehouses], [[order_id, record], …]], …], the next [sku, score, order_id] or nil]
local function of_skus(what, first, is_all, score, id, count)
  local groups, examined = {}, 0
  for i, name in ipairs(names_from(first, is_all)) do
    if i > SKUS_MAX or examined > WAREHOUSES_MAX or bytes > ORDERS_BYTES_MAX or count <= 0 then
      return MSGPACK.ARRAY_2 .. msgpack.array(groups) .. pack({name, '', ''})
    end
    local sku = skus.get(name)
    if sku then
      examined = examined + sku.places.count
      local is_first = name == first
      local entries, more, warehouses = ENTRIES[what](sku, is_first and score or '', is_first and id or '', count)
      local rows, last = rows_of_entries(entries, more)
      count = count - #entries
      if #rows > 0 then
        groups[#groups + 1] = MSGPACK.ARRAY_3 .. pack(name) .. pack(warehouses) .. msgpack.array(rows)
      end
      if last then return MSGPACK.ARRAY_2 .. msgpack.array(groups) .. pack({name, last[3], last[2]}) end
    end
  end
  return MSGPACK.ARRAY_2 .. msgpack.array(groups) .. MSGPACK.NIL
end

-- A page of the queue of a SKU. -> msgpack [[[order_id, record], …], the next [sku, score, order_id] or nil]; or false
local function of_queue(name, score, id, count)
  local sku = skus.get(name)
  if not sku then return false end
  local rows, last = rows_of_entries(queue_entries(sku, score, id, count))
  return MSGPACK.ARRAY_2 .. msgpack.array(rows) .. (last and pack({name, last[3], last[2]}) or MSGPACK.NIL)
end

return {all = all, of_skus = of_skus, of_queue = of_queue}
