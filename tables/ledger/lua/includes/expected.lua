-- Announced receipts (rules 5, 14, 17). An announcement is the movement `<warehouse>\n<id>` of the kind `expect`: `at`
-- is the time of its newest body, and each line has the announced `quantity`, the units `received`, and those that are
-- still `incoming`, which are the SKU's counter `incoming#<id>`. An accepted one has an `eta`.
-- Indexes: `expected` (the announcements that are listed), `overdue` (those that an alert has named), `etas` (by the ms
-- of their next step, see `tick`); of a SKU `expected:<sku>` (listed), `incoming:<sku>` (with units to come, by `eta`).

local alerts = require('alerts')
local batch = require('batch')
local indexes = require('indexes')
local modes = require('modes')
local movements = require('movements')
local offer = require('offer')
local prefetch = require('prefetch')
local refusals = require('refusals')
local skus = require('skus')

-- Of one announcement: the lines of two bodies that have no SKU in common, or what came without being announced.
local LINES_MAX = 4000
local DUE_BYTES_MAX = 262144 -- 256 KiB of records per step: some ms
-- One of which nothing is to come is listed for 7 days after its last change: a day less than its record lives.
local LISTED_MS = 604800000

local touched = {} -- announcements with changed index entries
local opened = {} -- by SKU, entries that this batch adds to `incoming:<sku>`, less those that it removes
local lists = {expected = {add = {}, drop = {}}, overdue = {add = {}, drop = {}}, etas = {add = {}, drop = {}}}

local function key_of(movement) return movements.key_of(movement.warehouse, movement.id) end

local function is_open(record)
  if record.outcome == O.APPLYING then return true end
  for _, line in ipairs(record.lines or {}) do
    if line.incoming then return true end
  end
  return false
end

-- Add a changed announcement to the batch's writes; `line`: one whose index entries may change.
local function touch(movement, line)
  if not movement.touched then
    movement.touched, touched[#touched + 1] = {}, movement
    movement.changed, movement.packed = true, nil
    movement.record.applied_at, movement.unlisted = batch.now, nil
    movements.included[#movements.included + 1] = movement
  end
  if line then movement.touched[line] = true end
end

-- Units of a line that are still to come.
local function due_of(line) return math.max(0, line.quantity - (line.received or 0)) end

-- Bring a SKU's counter up to the line, as part of the change of the SKU that has begun. -> by how much it changed
local function settle_line(sku, movement, line)
  local due, was = due_of(line), line.incoming or 0
  if (due > 0) ~= (was > 0) then opened[sku.name] = (opened[sku.name] or 0) + (due > 0 and 1 or -1) end
  line.incoming = due > 0 and due or nil
  skus.change_named(sku, 'incoming#' .. movement.id, due - was)
  touch(movement, line)
  return due - was
end

local function lines_by_sku(record)
  local by_sku = {}
  for _, line in ipairs(record.lines or {}) do by_sku[line.sku] = line end
  return by_sku
end

-- -> why an announcement, or an amendment of `record`, is refused, and the path; or nil
local function refusal(command, record)
  local known, new = record and lines_by_sku(record) or {}, 0
  for i, line in ipairs(command.lines) do
    local old, sku_name = known[line[1]], line[1]
    if not old then new = new + 1 end
    if line[2] > (old and old.received or 0) and not (old and old.incoming) then
      local open = redis.call('ZCARD', KEYS[1] .. 'incoming:' .. sku_name) + (opened[sku_name] or 0)
      if open >= batch.limits.expected_per_sku_max then
        return O.TOO_MANY_EXPECTED, 'lines[' .. (i - 1) .. '].sku'
      end
    end
  end
  if record and #(record.lines or {}) + new > LINES_MAX then return O.TOO_LARGE, 'lines' end
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
  if eta ~= record.eta then record.overdue = nil end
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

-- The first of the SKUs that one call may change: each line costs twice as much as that of another movement.
local function of_step(names)
  local lines_max = batch.limits.lines_per_step
  if #names > 2 * lines_max then names = {unpack(names, 1, 2 * lines_max)} end
  return #names > lines_max and prefetch.names_within('sku:', names, batch.limits.step_bytes_max) or names
end

-- Alert where an amendment left fewer units of a SKU to come than are preordered: the preorders stand.
local function report_unbacked(sku, movement)
  local preordered, incoming = offer.preorder_sums(sku)
  if preordered <= incoming then return end
  alerts.add('preorders_unbacked', sku, {
    warehouse = movement.warehouse, quantity = preordered - incoming, event_id = movement.id,
    event_type = 'stock.expected',
  })
end

-- Bring the counters of SKUs up to the record. A long announcement takes several calls.
local function apply(command, movement, result)
  local record, open, names, cause = movement.record, {}, {}, {'expect', command.id, command.warehouse}
  for _, line in ipairs(record.lines) do
    if due_of(line) ~= (line.incoming or 0) then open[#open + 1], names[#names + 1] = line, line.sku end
  end
  names = of_step(names)
  prefetch.skus_named(names)
  for i = 1, #names do
    local sku = skus.get_or_new(names[i])
    skus.begin(sku)
    local units = settle_line(sku, movement, open[i])
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

local function refused(result, command, outcome, detail)
  refusals.add(command, outcome, detail)
  result.outcome, result.detail = outcome, detail
  return result
end

-- An event with the id of an announcement and another time: the newest counts (rule 17).
local function amend(command, movement, result)
  local record = movement.record
  movements.included[#movements.included + 1] = movement
  if command.at < record.at then
    result.outcome = O.EXPECTED_SUPERSEDED
    return result
  end
  if refusals.is_ahead(command) then return refused(result, command, O.OCCURRED_IN_FUTURE, 'occurred_at') end
  local outcome, detail = refusal(command, record)
  if outcome then return refused(result, command, outcome, detail) end
  if record.eta then record.amendments = (record.amendments or 0) + 1 end
  record.detail = nil
  return announce(command, movement, result)
end

-- The announcement that a receipt names, or nil if there is none.
local function announcement_of(command)
  local movement = movements.get(command.warehouse, command.expected_id)
  return movement and movement.record.eta and movement or nil
end

-- What the record of a receipt says about the announcement that it names.
local function detail_of(command)
  if not announcement_of(command) then return 'expected_id: nothing is announced under this id' end
end

-- Units of a receipt that names an announcement, as part of the change of the SKU that has begun.
local function receive(command, sku, units)
  local movement = announcement_of(command)
  local record = movement and movement.record
  if not record then return end
  movement.by_sku = movement.by_sku or lines_by_sku(record)
  local line = movement.by_sku[sku.name]
  if not line then
    record.lines = record.lines or {}
    if #record.lines >= LINES_MAX then return end
    line = {sku = sku.name, quantity = 0, outcome = O.RECEIVED} -- it was not announced
    record.lines[#record.lines + 1], movement.by_sku[sku.name] = line, line
  end
  line.received = (line.received or 0) + units
  settle_line(sku, movement, line)
end

-- Alert for an announcement whose time has passed, once for each `eta`.
local function report_overdue(movement)
  local units, count, only = 0, 0, nil
  for _, line in ipairs(movement.record.lines) do
    local due = due_of(line)
    if due > 0 then units, count, only = units + due, count + 1, line.sku end
  end
  movement.record.overdue = true
  touch(movement)
  alerts.add('receipt_overdue', count == 1 and {name = only} or nil, {
    warehouse = movement.warehouse, quantity = units, event_id = movement.id, event_type = 'stock.expected',
  })
end

local function is_late(record)
  return record.eta and not record.overdue and batch.now >= record.eta and is_open(record)
end

-- Up to `count_max` steps that are due: the alert of one that is late, or the end of the listing of one of which
-- nothing is to come. -> their number
local function tick(count_max)
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
      for _, list in pairs(lists) do list.drop[#list.drop + 1] = key end
    else
      if is_late(record) then report_overdue(movement) end
      movement.unlisted = not is_open(record) and batch.now >= record.applied_at + LISTED_MS or nil
      touched[#touched + 1] = movement
    end
  end
  return count
end

-- Write the index entries of a record that a repair puts back.
local function put_back(movement)
  movement.touched, touched[#touched + 1] = {}, movement
  for _, line in ipairs(movement.record.lines or {}) do movement.touched[line] = true end
end

local function put(list, key, score)
  local changes = score and list.add or list.drop
  if score then changes[#changes + 1] = score end
  changes[#changes + 1] = key
end

local function put_line(key, line, record, is_listed)
  local listed, incoming = KEYS[1] .. 'expected:' .. line.sku, KEYS[1] .. 'incoming:' .. line.sku
  if is_listed and (line.received or line.outcome == O.EXPECTED) then
    redis.call('ZADD', listed, 0, key)
  else
    redis.call('ZREM', listed, key)
  end
  if is_listed and line.incoming then
    redis.call('ZADD', incoming, record.eta, key)
  else
    redis.call('ZREM', incoming, key)
  end
end

local function index(movement)
  local record, key, is_listed = movement.record, key_of(movement), not movement.unlisted
  local lines = movement.touched or {}
  local open = is_open(record)
  local due = not open and record.applied_at + LISTED_MS or not record.overdue and record.eta or nil
  put(lists.expected, key, is_listed and 0)
  put(lists.overdue, key, is_listed and open and record.overdue and 0)
  put(lists.etas, key, is_listed and due)
  for _, line in ipairs(record.lines or {}) do
    if movement.unlisted or lines[line] then put_line(key, line, record, is_listed) end
  end
end

batch.writers[#batch.writers + 1] = function()
  for _, movement in ipairs(touched) do index(movement) end
  for name, list in pairs(lists) do indexes.write(name, list) end
end

return {
  is_open = is_open, of_step = of_step, refusal = refusal, announce = announce, apply = apply, amend = amend,
  detail_of = detail_of, receive = receive, tick = tick, put_back = put_back,
}
