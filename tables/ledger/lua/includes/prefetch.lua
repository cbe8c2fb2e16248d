-- Read the orders and SKUs that a batch names in few MGETs; other records are read on demand. Records in memory are
-- not read again: the batch may have changed them.
local READ_BYTES_MAX, fetch_orders, fetch_skus, names_within, prefetch
do

READ_BYTES_MAX = 8388608 -- 8 MiB of records per batch of several commands: some 100 ms; a single command has no limit
local READ_KEYS = 128 -- per MGET: the limit is checked after each
local fetching = {bytes = 0, bytes_max = math.huge}

-- -> false if the batch has read more than `fetching.bytes_max`
local function fetch(prefix, names, known, open)
  local keys, wanted, count = {}, {}, 0
  prefix = KEYS[1] .. prefix
  for _, name in ipairs(names) do
    if known[name] == nil then
      count = count + 1
      wanted[count], keys[count] = name, prefix .. name
    end
  end
  for from = 1, count, READ_KEYS do
    local values = redis.call('MGET', unpack(keys, from, math.min(from + READ_KEYS - 1, count)))
    for i, packed in ipairs(values) do
      local name = wanted[from + i - 1]
      if packed then
        fetching.bytes = fetching.bytes + #packed
        open(name, packed)
      else
        known[name] = false
      end
    end
    if fetching.bytes > fetching.bytes_max then return false end
  end
  return true
end

function fetch_orders(ids) return fetch('order:', ids, orders, open_order) end
function fetch_skus(names) return fetch('sku:', names, skus, open_sku) end

-- The first of `names` whose records total at most `bytes_max` bytes; at least one.
function names_within(prefix, names, bytes_max)
  local bytes = 0
  for i, name in ipairs(names) do
    bytes = bytes + redis.call('STRLEN', KEYS[1] .. prefix .. name)
    if bytes > bytes_max and i > 1 then return {unpack(names, 1, i - 1)} end
  end
  return names
end

-- -> false if the batch must be divided
function prefetch(commands)
  fetching.bytes_max = #commands > 1 and READ_BYTES_MAX or math.huge
  local ids, seen, names, named_skus = {}, {}, {}, {}
  local function want(id)
    if id and not seen[id] then
      seen[id] = true
      ids[#ids + 1] = id
    end
  end
  local function want_sku(sku)
    if not named_skus[sku] then
      named_skus[sku] = true
      names[#names + 1] = sku
    end
  end
  for _, cmd in ipairs(commands) do
    want(cmd.order_id)
    want(cmd.supersedes)
    local is_in_steps = cmd.warehouse and (cmd.parts or #cmd.lines > limits.lines_per_step)
    if cmd.lines and not is_in_steps then
      for _, line in ipairs(cmd.lines) do want_sku(line[1]) end
    end
  end
  if not fetch_orders(ids) then return false end
  for _, id in ipairs(ids) do
    local o = orders[id]
    if o then
      for _, line in ipairs(o.r.lines) do want_sku(line.sku) end
    end
  end
  local is_within = fetch_skus(names)
  fetching.bytes_max = math.huge
  return is_within
end

end
