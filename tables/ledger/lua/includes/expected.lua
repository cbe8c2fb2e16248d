-- expect {warehouse, id, at, eta, lines = {{sku, units}, …}}: announce a receipt, or amend the announcement with this
-- id (rules 5, 14, 17; announcements.lua).

local alerts = require('alerts')
local announcements = require('announcements')
local batch = require('batch')
local modes = require('modes')
local movements = require('movements')
local offer = require('offer')
local prefetch = require('prefetch')
local queue = require('queue')
local refusals = require('refusals')
local skus = require('skus')

local ORDERS_NAMED_MAX = 20 -- in an alert

local due_of, lines_by_sku, touch = announcements.due_of, announcements.lines_by_sku, announcements.touch

-- -> why an announcement, or an amendment of `record`, is refused, and the path; or nil
local function refusal(command, record)
  local known, new = record and lines_by_sku(record) or {}, 0
  for i, line in ipairs(command.lines) do
    local old, sku_name = known[line[1]], line[1]
    if not old then new = new + 1 end
    if line[2] > (old and old.received or 0) and not (old and old.incoming) then
      local open = redis.call('ZCARD', KEYS[1] .. 'incoming:' .. sku_name) + (announcements.opened[sku_name] or 0)
      if open >= batch.limits.expected_per_sku_max then
        return O.TOO_MANY_EXPECTED, 'lines[' .. (i - 1) .. '].sku'
      end
    end
  end
  if record and #(record.lines or {}) + new > announcements.LINES_MAX then return O.TOO_LARGE, 'lines' end
end

-- Replace the announced lines; what was received stays.
local function replace_lines(movement, command)
  local record = movement.record
  local known, lines, named = lines_by_sku(record), {}, {}
  for i, each in ipairs(command.lines) do
    lines[i] = known[each[1]] or {sku = each[1]}
    lines[i].quantity, lines[i].outcome, named[each[1]] = each[2], O.EXPECTED, true
  end
  for _, line in ipairs(record.lines or {}) do
    if not named[line.sku] then
      line.quantity, line.outcome = 0, O.WITHDRAWN
      lines[#lines + 1] = line
    end
  end
  local eta = command.eta or record.eta or command.at
  if eta ~= record.eta then
    record.overdue = nil
    for _, line in ipairs(lines) do line.eta_pending = line.incoming and true or nil end
  end
  record.lines, record.eta, record.at, record.fingerprint = lines, eta, command.at, command.fingerprint
  movement.by_sku = nil
  touch(movement)
  for _, line in ipairs(lines) do movement.touched[line] = true end
end

local function outcome_of(record)
  for _, line in ipairs(record.lines) do
    if line.quantity > 0 then return record.amendments and O.AMENDED or O.EXPECTED end
  end
  return O.WITHDRAWN
end

-- Alert where an amendment left fewer units of a SKU to come than are preordered: the preorders stand.
local function report_unbacked(sku, movement)
  local preordered, incoming = offer.preorder_sums(sku)
  if preordered <= incoming then return end
  alerts.add('preorders_unbacked', sku, {
    warehouse = movement.warehouse, quantity = preordered - incoming, event_id = movement.id,
    event_type = 'stock.expected', orders = queue.first_of_all(sku, ORDERS_NAMED_MAX),
  })
end

-- Bring the counters of SKUs up to the record. A long announcement takes several calls.
local function apply(command, movement, result)
  local record, open, names, cause = movement.record, {}, {}, {'expect', command.id, command.warehouse}
  for _, line in ipairs(record.lines) do
    if line.eta_pending or due_of(line) ~= (line.incoming or 0) then
      open[#open + 1], names[#names + 1] = line, line.sku
    end
  end
  names = announcements.of_step(names)
  prefetch.skus_named(names)
  for i = 1, #names do
    local sku = skus.get_or_new(names[i])
    skus.begin(sku)
    local units = announcements.settle_line(sku, movement, open[i])
    modes.finish(sku, cause)
    if units < 0 then report_unbacked(sku, movement) end
  end
  touch(movement)
  record.at = math.max(record.at, command.at)
  record.outcome = #names < #open and O.APPLYING or outcome_of(record)
  result.outcome = record.outcome
  return result
end

local function announce(command, movement, result)
  replace_lines(movement, command)
  return apply(command, movement, result)
end

-- An event with the id of an announcement and another time: the newest counts (rule 17).
local function amend(command, movement, result)
  local record = movement.record
  movements.included[#movements.included + 1] = movement
  if command.at < record.at then
    result.outcome = O.EXPECTED_SUPERSEDED
    return result
  end
  if refusals.is_ahead(command) then return refusals.refuse(result, command, O.OCCURRED_IN_FUTURE, 'occurred_at') end
  local outcome, detail = refusal(command, record)
  if outcome then return refusals.refuse(result, command, outcome, detail) end
  if record.eta then record.amendments = (record.amendments or 0) + 1 end
  record.detail = nil
  return announce(command, movement, result)
end

return {refusal = refusal, announce = announce, apply = apply, amend = amend}
