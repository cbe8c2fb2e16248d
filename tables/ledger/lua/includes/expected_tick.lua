-- The timer's steps for announcements (announcements.lua): the alert of one that is late, and the end of the listing of
-- one of which nothing is to come.

local alerts = require('alerts')
local announcements = require('announcements')
local batch = require('batch')
local movements = require('movements')
local prefetch = require('prefetch')

local DUE_BYTES_MAX = 262144 -- 256 KiB of records per step: some ms

local touched = announcements.touched

-- Alert for an announcement whose time has passed, once for each `eta`.
local function report_overdue(movement)
  local units, count, only = 0, 0, nil
  for _, line in ipairs(movement.record.lines) do
    local due = announcements.due_of(line)
    if due > 0 then units, count, only = units + due, count + 1, line.sku end
  end
  movement.record.overdue = true
  announcements.touch(movement)
  alerts.add('receipt_overdue', count == 1 and {name = only} or nil, {
    warehouse = movement.warehouse, quantity = units, event_id = movement.id, event_type = 'stock.expected',
  })
end

local function is_late(record)
  return record.eta and not record.overdue and batch.now >= record.eta and announcements.is_open(record)
end

-- Up to `count_max` steps that are due. -> their number
local function run(count_max)
  local keys = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'etas', '-inf', batch.now, 'LIMIT', 0, count_max)
  keys = prefetch.names_within('movement:', keys, DUE_BYTES_MAX)
  local count = #keys
  for _, movement in ipairs(touched) do -- by this batch: the index does not hold it yet
    if is_late(movement.record) then
      report_overdue(movement)
      count = count + 1
    end
  end
  for _, key in ipairs(keys) do
    local movement = movements.get(string.match(key, '^(.-)\n(.*)$'))
    local record = movement and movement.record
    if not record or not record.eta then -- a repair removed it
      announcements.drop(key)
    else
      if is_late(record) then report_overdue(movement) end
      movement.unlisted = announcements.is_over(record)
      touched[#touched + 1] = movement
    end
  end
  return count
end

return {run = run}
