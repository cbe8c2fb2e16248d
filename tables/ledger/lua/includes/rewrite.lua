-- `rewrite(prefix, packed, first)`: write states that were decided before, as `tables.recovery.redo.Writes` packs them.
-- packed: msgpack [set, expiring, gone, indexed, dropped, patches, moved, at]; ARGV[first…] are the values of `set`,
-- then those of `expiring`
--   set      [name, …]         expiring [[name, ms since the epoch], …]         gone [name, …]
--   patches  [[sku, [[channels, [sku, version, at, counters, warehouses, sides, counted, floors, carried, rest,
--            pool_times, [announced, promise_pass] or nil]], …]], …]: applied to the stored records after `set`
--   indexed  [[name, [score, member, …]], …]      dropped [[name, [member, …]], …]      (sorted sets)
--   moved    [[sku, warehouse, ms, units], …], added to the stored units; at  the ledger's time, ms (move_keys.lua)
-- Names are without the prefix.

local chunked = require('chunked')
local move_keys = require('move_keys')
local sku_record = require('sku_record')
local unpaid_keys = require('unpaid_keys')

local function apply_patch(sku, channels, patch)
  local marks = sku_record.marks_of(sku)
  for _, warehouse in ipairs(patch[5]) do
    if not sku.places.at[warehouse] then sku_record.add_warehouse(sku, warehouse) end
  end
  sku.numbers[SKU.version], sku.numbers[SKU.at], sku.numbers[SKU.low], sku.numbers[SKU.high] = patch[2], patch[3], 1, 0
  for name, value in pairs(patch[4]) do sku_record.set_counter(sku, name, value) end
  sku.modes = sku.modes or {}
  for _, sides in ipairs(patch[6]) do
    local side = sides[1] ~= 0 and {sides[1], sides[2], sides[3]} or nil
    for _, place in ipairs(sides[4]) do sku.modes[channels[place + 1]] = side end
  end
  marks.counted, marks.floors = marks.counted or {}, marks.floors or {}
  for warehouse, at in pairs(patch[7]) do marks.counted[warehouse] = at end
  for warehouse, at in pairs(patch[8]) do marks.floors[warehouse] = at ~= 0 and at or nil end
  if next(marks.counted) == nil then marks.counted = nil end
  if next(marks.floors) == nil then marks.floors = nil end
  for _, warehouse in ipairs(patch[9]) do
    if marks.history then marks.history = select(2, move_keys.split_history(marks.history, warehouse)) end
  end
  for name, times in pairs(patch[11] or {}) do
    sku.pool_times = sku.pool_times or {}
    sku.pool_times[name] = (times[1] ~= 0 or times[2] ~= 0) and times or nil
  end
  if sku.pool_times and next(sku.pool_times) == nil then sku.pool_times = nil end
  if patch[12] then
    sku.announced, sku.promise_pass = next(patch[12][1]) ~= nil and patch[12][1] or nil, patch[12][2]
  end
end

local function index(prefix, name, sku_name, score)
  if score then
    redis.call('ZADD', prefix .. name, string.format('%.0f', score), sku_name)
  else
    redis.call('ZREM', prefix .. name, sku_name)
  end
end

-- Apply patches (tables/ledger/records.py, SkuPatch) to a stored SKU, and update the indexes of dwells, pools and
-- promises from the result.
local function rewrite_patched(prefix, sku_name, patches)
  local stored = redis.call('GET', prefix .. 'sku:' .. sku_name)
  local sku = stored and sku_record.read(sku_name, stored) or sku_record.new(sku_name)
  for _, each in ipairs(patches) do apply_patch(sku, each[1], each[2]) end
  local due = sku_record.pool_due(sku)
  for _, side in pairs(sku.modes) do
    if side[3] ~= 0 and (not due or side[3] < due) then due = side[3] end
  end
  redis.call('SET', prefix .. 'sku:' .. sku_name, sku_record.pack(sku))
  index(prefix, 'dwells', sku_name, due)
  index(prefix, 'pools', sku_name, sku_record.has_pools(sku) and 0)
  index(prefix, 'promises', sku_name, sku.promise_pass and (sku.promise_pass.due or 0))
end

local function run(prefix, packed, first)
  local set, expiring, gone, indexed, dropped, patches, moved, at = unpack(cmsgpack.unpack(packed))
  for i, name in ipairs(set) do redis.call('SET', prefix .. name, ARGV[first + i - 1]) end
  first = first + #set
  for i, entry in ipairs(expiring) do
    redis.call('SET', prefix .. entry[1], ARGV[first + i - 1], 'PXAT', string.format('%.0f', entry[2]))
  end
  for _, name in ipairs(gone) do redis.call('DEL', prefix .. name) end
  for _, entry in ipairs(dropped) do
    if unpaid_keys.is_one(entry[1]) then
      unpaid_keys.write(prefix, entry[1], {}, entry[2])
    else
      chunked.call('ZREM', prefix .. entry[1], entry[2])
    end
  end
  for _, entry in ipairs(indexed) do
    if unpaid_keys.is_one(entry[1]) then
      unpaid_keys.write(prefix, entry[1], entry[2], {})
    else
      chunked.call('ZADD', prefix .. entry[1], entry[2])
    end
  end
  for _, entry in ipairs(patches) do rewrite_patched(prefix, entry[1], entry[2]) end
  move_keys.put(prefix, moved, at)
  redis.call('DEL', prefix .. 'waiting_bytes') -- summed again from the index on demand
end

return {run = run}
