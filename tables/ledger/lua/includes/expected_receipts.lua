-- Receipts that name an announcement (rule 17; announcements.lua).

local announcements = require('announcements')
local movements = require('movements')

-- The announcement that a receipt names, or nil if there is none.
local function announcement_of(command)
  local movement = movements.get(command.warehouse, command.expected_id)
  return movement and movement.record.eta and movement or nil
end

-- What the record of a receipt says about the announcement that it names.
local function detail_of(command)
  if not announcement_of(command) then return 'expected_id: nothing is announced under this id' end
end

-- Units of a receipt that names an announcement, as part of the change of the SKU that has begun; below 0 where it is
-- voided.
local function receive(command, sku, units)
  local movement = announcement_of(command)
  local record = movement and movement.record
  if not record then return end
  movement.by_sku = movement.by_sku or announcements.lines_by_sku(record)
  local line = movement.by_sku[sku.name]
  if not line then
    record.lines = record.lines or {}
    if #record.lines >= announcements.LINES_MAX then return end
    line = {sku = sku.name, quantity = 0, outcome = O.RECEIVED} -- it was not announced
    record.lines[#record.lines + 1], movement.by_sku[sku.name] = line, line
  end
  local received = math.max(0, (line.received or 0) + units)
  line.received = received > 0 and received or nil
  announcements.settle_line(sku, movement, line)
end

return {detail_of = detail_of, receive = receive}
