-- Read in one MGET each what a batch will most likely need; whatever else it needs is read when it is needed.
local function fetch_orders(ids)
  local keys = {}
  for i, id in ipairs(ids) do keys[i] = KEYS[1] .. 'order:' .. id end
  local values = mget(keys)
  for i, id in ipairs(ids) do
    if values[i] then open_order(id, values[i]) else orders[id] = false end
  end
end

local function fetch_skus(names)
  local keys = {}
  for i, sku in ipairs(names) do keys[i] = KEYS[1] .. 'sku:' .. sku end
  local values = mget(keys)
  for i, sku in ipairs(names) do
    if values[i] then open_sku(sku, values[i]) else skus[sku] = false end
  end
end

local function prefetch(commands)
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
    if cmd.lines then
      for _, line in ipairs(cmd.lines) do want_sku(line[1]) end
    end
  end
  fetch_orders(ids)
  for _, id in ipairs(ids) do
    local o = orders[id]
    if o then
      for _, line in ipairs(o.r.lines) do want_sku(line.sku) end
    end
  end
  fetch_skus(names)
end
