-- assign {lines = {{sku, units}, …}, reason, actor}: give units from the shelf to lines of an order that wait, all that
-- they wait for without `lines`, whatever the threshold of the channel and the order of the queue. All or none.

local actions = require('actions')
local additions = require('additions')
local draw = require('draw')
local fill = require('fill')
local modes = require('modes')
local offer = require('offer')
local orders = require('orders')
local registry = require('registry')
local skus = require('skus')

local function waiting(line) return (line.preordered or 0) + (line.short or 0) end

-- -> {{line, units, place}, …}; or nil, a refusal and its path
local function wanted_of(order, lines)
  local wanted = {}
  for i, line in ipairs(lines and {} or order.record.lines) do
    if waiting(line) > 0 then wanted[#wanted + 1] = {line = line, units = waiting(line), place = i - 1} end
  end
  for i, each in ipairs(lines or {}) do
    local line, path = orders.line_of(order, each[1]), 'lines[' .. (i - 1) .. ']'
    if not line then return nil, O.NOT_IN_ORDER, path .. '.sku' end
    if each[2] > waiting(line) then return nil, O.MORE_THAN_OPEN, path .. '.quantity' end
    wanted[i] = {line = line, units = each[2], place = i - 1}
  end
  if #wanted == 0 then return nil, O.MORE_THAN_OPEN, 'lines' end
  return wanted
end

-- Units that are short lower what is available, and do not when they are held: of those a line may have what is free.
-- -> draws, or nil and the reason
local function plan(order, line, units)
  local sku = skus.get(line.sku)
  local policy = registry.policy_of(sku, order.record.channel)
  if policy.pool_only or sku.places.count == 0 then return nil, O.INSUFFICIENT_STOCK end
  local available, short = offer.available_of(sku, policy), math.min(units, line.short or 0)
  local for_short = available + (sku.promised or 0) - (sku.filling or 0)
  if short > for_short or (units > short and units - short > available) then return nil, O.INSUFFICIENT_STOCK end
  local draws, drawn = draw.up_to(sku, policy, units, line, fill.room_of(order)), 0
  for i = 2, #draws, 2 do drawn = drawn + draws[i] end
  if drawn == units then return draws end
  return nil, policy.split and O.TOO_LARGE or O.INSUFFICIENT_STOCK
end

local function run(order, command)
  local state = order.record.state
  if state ~= 'reserved' and state ~= 'paid' then return O.ALREADY_FINAL end
  local wanted, refusal, path = wanted_of(order, command.lines)
  if not wanted then return refusal, false, path end
  local planned, reasons, before, after = {}, {}, {}, {}
  for i, each in ipairs(wanted) do
    local draws, reason = plan(order, each.line, each.units)
    planned[i] = draws or false
    if reason then reasons[#reasons + 1], reasons[#reasons + 2] = each.place, reason end
  end
  if #reasons > 0 then
    command.reasons = reasons
    return reasons[2], false, nil, 'not all of it can be had: ' .. additions.reasons_text(reasons, 'lines')
  end
  orders.record_event(order, command)
  local cause = {'assign', command.id, order}
  for i, each in ipairs(wanted) do
    local sku = skus.get(each.line.sku)
    before[i] = actions.describe(order, each.line)
    skus.begin(sku)
    fill.hold(sku, order, each.line, planned[i])
    modes.finish(sku, cause)
    after[i] = actions.describe(order, each.line)
  end
  actions.note('assigned', order, command, before, after)
  orders.advance_sequence(order)
  return O.CHANGED
end

return {run = run}
