-- The orders that wait for a SKU in the order of its queue, merged from the sorted sets of its channels: a heap of the
-- channels by their next entry, as a SKU may have 1,000 of them.

local queue = require('queue')

-- Entries that are read at a time, over all channels and of one; of one it doubles with each reading.
local ENTRIES, ENTRIES_PER_CHANNEL_MAX = 128, 64

local function read(sku_name, channel, after)
  channel.page, channel.at = queue.after(sku_name, channel.name, after, channel.count), 1
  channel.is_read = #channel.page < channel.count
  channel.count = math.min(ENTRIES_PER_CHANNEL_MAX, 2 * channel.count)
  channel.entry = channel.page[1]
end

-- Put the channel at `at` where it belongs below.
local function sift(heap, at)
  local channel = heap[at]
  while true do
    local child = 2 * at
    if heap[child + 1] and queue.is_before(heap[child + 1].entry, heap[child].entry) then child = child + 1 end
    if not heap[child] or queue.is_before(channel.entry, heap[child].entry) then break end
    heap[at] = heap[child]
    at = child
  end
  heap[at] = channel
end

-- Go from the first channel's entry to the next one.
local function advance(sku_name, heap)
  local channel = heap[1]
  local last = channel.entry
  channel.at = channel.at + 1
  channel.entry = channel.page[channel.at]
  if not channel.entry and not channel.is_read then read(sku_name, channel, last) end
  if not channel.entry then
    heap[1] = heap[#heap]
    heap[#heap] = nil
  end
  if heap[1] then sift(heap, 1) end
end

-- An iterator over the entries after `after`: {place, order_id}, and the channel's policy.
local function entries(sku_name, channels, after)
  local heap = {}
  for _, channel in ipairs(channels) do
    channel.count = math.max(1, math.floor(ENTRIES / #channels))
    read(sku_name, channel, after)
    if channel.entry then heap[#heap + 1] = channel end
  end
  for at = math.floor(#heap / 2), 1, -1 do sift(heap, at) end
  local has_begun = false
  return function()
    if has_begun and heap[1] then advance(sku_name, heap) end
    has_begun = true
    if heap[1] then return heap[1].entry, heap[1].policy end
  end
end

return {entries = entries}
