-- Orders that wait for units of a SKU (rules 16 and 49): one sorted set per SKU and channel, `queue:<sku>\n<channel>`,
-- with the order_id by its place: short units before preorders, of those VIP before the others, each oldest first.
-- A line waits while it has `short` or `preordered` units; it is not in the queue while an operator holds it back
-- (hold_back.lua). The numbers of an order's place come from its batch.

local batch = require('batch')
local skus = require('skus')

-- The places of short lines and of VIP lie below those of others. All are whole numbers that a double holds exactly.
local SHORT_OFFSET, VIP_OFFSET = 2 ^ 52, 2 ^ 51
-- Orders of a release without numbers are placed by their time, in ms, before all others.
local UNNUMBERED_OFFSET = 2 ^ 42
local NUMBERS_PER_BATCH = 8192 -- far more orders than a batch holds; beyond it, orders share the last number

local queue = {}
local noted = {} -- by the name of a sorted set: order_id -> its place, or false
local skipped = {} -- the same: order_id -> true
local taken = 0

-- A new number, greater than all before.
function queue.next_number()
  taken = math.min(taken + 1, NUMBERS_PER_BATCH - 1)
  return batch.number * NUMBERS_PER_BATCH + taken
end

local function place_of(record, line)
  if not line.short and not line.preordered then return false end
  if record.held_back and record.held_back[line.sku] then return false end
  local place = record.queued or (record.placed_at or 0) - UNNUMBERED_OFFSET
  if line.short then return place - SHORT_OFFSET end
  return record.priority == 'vip' and place - VIP_OFFSET or place
end

-- Whether a number comes from this batch: it is greater than those of all earlier ones.
function queue.is_of_batch(number) return number >= batch.number * NUMBERS_PER_BATCH end

local function name_of(sku_name, channel) return sku_name .. '\n' .. channel end

-- Note the entry of an order in the index.
function queue.note(order, line)
  local name = name_of(line.sku, order.record.channel)
  noted[name] = noted[name] or {}
  noted[name][order.id] = place_of(order.record, line)
end

-- Must be called after a change of the units that a line waits for.
function queue.changed(order, line)
  queue.note(order, line)
  local sku = skus.known[line.sku]
  if sku and (sku.announced or sku.promise_pass or sku.promises_changed) then
    require('promises').note(sku, order, line)
  end
end

-- Pass an order over in this batch: it cannot be filled.
function queue.skip(sku_name, channel, order_id)
  local name = name_of(sku_name, channel)
  skipped[name] = skipped[name] or {}
  skipped[name][order_id] = true
end

function queue.is_skipped(sku_name, channel, order_id)
  local ids = skipped[name_of(sku_name, channel)]
  return ids ~= nil and ids[order_id] ~= nil
end

function queue.is_short(place) return place < -SHORT_OFFSET + VIP_OFFSET / 2 end

local function is_before(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end

-- The first `count` orders that wait for units of a SKU, of one channel. -> {{place, order_id}, …}
function queue.first(sku_name, channel, count)
  local name = name_of(sku_name, channel)
  local changed, passed, found, more = noted[name] or {}, skipped[name] or {}, {}, 0
  for id in pairs(passed) do more = more + (changed[id] == nil and 1 or 0) end
  for id, place in pairs(changed) do
    more = more + 1
    if place and not passed[id] then found[#found + 1] = {place, id} end
  end
  local stored = redis.call('ZRANGE', KEYS[1] .. 'queue:' .. name, 0, count + more - 1, 'WITHSCORES')
  for i = 1, #stored, 2 do
    local id = stored[i]
    if changed[id] == nil and not passed[id] then found[#found + 1] = {tonumber(stored[i + 1]), id} end
  end
  table.sort(found, is_before)
  for i = #found, count + 1, -1 do found[i] = nil end
  return found
end

-- The first `count` orders after the entry `after`, of one channel. -> {{place, order_id}, …}
function queue.after(sku_name, channel, after, count)
  local name, found, at = name_of(sku_name, channel), {}, 0
  local changed, step, stored = noted[name] or {}, count, nil
  for id, place in pairs(changed) do
    step = step + 1
    if place and is_before(after, {place, id}) then found[#found + 1] = {place, id} end
  end
  local from, stored_count = string.format('%.0f', after[1]), 0
  repeat -- entries of one place may lie before it
    stored = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'queue:' .. name, from, '+inf', 'WITHSCORES', 'LIMIT', at, step)
    for i = 1, #stored, 2 do
      local entry = {tonumber(stored[i + 1]), stored[i]}
      if is_before(after, entry) then
        stored_count = stored_count + 1
        if changed[entry[2]] == nil then found[#found + 1] = entry end
      end
    end
    at = at + step
  until stored_count >= step or #stored < 2 * step
  table.sort(found, is_before)
  for i = #found, count + 1, -1 do found[i] = nil end
  return found
end

-- The first `count` orders that wait for units of a SKU, of all channels. -> their ids
function queue.first_of_all(sku, count)
  local entries, ids = {}, {}
  for counter in pairs(sku.counters or {}) do
    local channel = string.match(counter, '^preordered@(.*)$')
    for _, entry in ipairs(channel and queue.first(sku.name, channel, count) or {}) do entries[#entries + 1] = entry end
  end
  table.sort(entries, is_before)
  for i = 1, math.min(count, #entries) do ids[i] = entries[i][2] end
  return ids
end

queue.is_before, queue.place_of = is_before, place_of

batch.writers[#batch.writers + 1] = function()
  local indexes = require('indexes')
  for name, places in pairs(noted) do
    local lists = {add = {}, drop = {}}
    for id, place in pairs(places) do
      if place then
        lists.add[#lists.add + 1], lists.add[#lists.add + 2] = string.format('%.0f', place), id
      else
        lists.drop[#lists.drop + 1] = id
      end
    end
    indexes.write('queue:' .. name, lists)
  end
end

return queue
