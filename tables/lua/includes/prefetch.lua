-- Read in one MGET each what a batch will most likely need; whatever else it needs is read when it is needed.
-- What is in memory already stays as it is: the batch may have changed it.
local function fetch(prefix, names, known, open)
  local keys, wanted = {}, {}
  for _, name in ipairs(names) do
    if known[name] == nil then
      wanted[#wanted + 1], keys[#keys + 1] = name, KEYS[1] .. prefix .. name
    end
  end
  local values = mget(keys)
  for i, name in ipairs(wanted) do
    if values[i] then open(name, values[i]) else known[name] = false end
  end
end

local function fetch_orders(ids) fetch('order:', ids, orders, open_order) end
local function fetch_skus(names) fetch('sku:', names, skus, open_sku) end

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
