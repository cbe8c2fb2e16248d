-- Counts of more than one step (rule 41): `parts` with one id form one count, and a `complete` count sets each SKU of
-- its warehouse that no part lists to 0. Each part is stored as the movement `<id> part <n>`; the movement `<id>` holds
-- the state of the whole: `parts_missing`, then `counting`, then the final outcome. Each step counts as of the count's
-- own time, so the result does not depend on when it runs.
-- Indexes: `counts` (<warehouse>\n<id> by the ms of its next step), and for each unfinished count
-- `listed:<warehouse>\n<id>` (SKU by part number).

local alerts = require('alerts')
local batch = require('batch')
local count = require('count')
local history = require('history')
local indexes = require('indexes')
local move_keys = require('move_keys')
local movements = require('movements')
local refusals = require('refusals')
local skus = require('skus')

local SCAN_BYTES_MAX = 524288 -- of records per step: their rows stay far below the limit of a batch
local PARTS_NAMED_MAX = 20 -- in one detail or alert

local due, listed = {add = {}, drop = {}}, {}

local function part_id(id, part) return id .. ' part ' .. string.format('%d', part) end -- names contain no space

-- Add a new or changed movement to the batch's writes.
local function put(movement)
  movement.changed, movement.packed, movement.record.applied_at = true, nil, batch.now
  if not movement.record.lines then movement.record.lines = {} end
  movements.known[movements.key_of(movement.warehouse, movement.id)] = movement
  movements.included[#movements.included + 1] = movement
end

local function key_of(whole) return movements.key_of(whole.warehouse, whole.id) end

local function schedule(whole, at)
  local list = at and due.add or due.drop
  if at then list[#list + 1] = at end
  list[#list + 1] = key_of(whole)
end

local function listed_in(whole)
  local key = key_of(whole)
  listed[key] = listed[key] or {add = {}, drop = {}, parts = {}}
  return listed[key]
end

local function part_that_lists(whole, sku_name)
  return listed_in(whole).parts[sku_name]
    or tonumber(redis.call('ZSCORE', KEYS[1] .. 'listed:' .. key_of(whole), sku_name) or nil)
end

local function missing_parts(record)
  local there, names, missing = {}, {}, 0
  for _, part in ipairs(record.arrived) do there[part] = true end
  for part = 1, record.parts do
    if not there[part] then
      missing = missing + 1
      if #names < PARTS_NAMED_MAX then names[#names + 1] = string.format('%d', part) end
    end
  end
  local more = missing > #names and ' and ' .. missing - #names .. ' more' or ''
  return missing, 'missing parts: ' .. table.concat(names, ', ') .. more
end

local function new_record(command, fields)
  fields.kind, fields.at, fields.parts = 'count', command.at, command.parts
  return fields
end

-- -> the result of a part that is a repeat or contradicts the earlier parts, or nil
local function known_part(result, command, whole)
  local part = movements.get(command.warehouse, part_id(command.id, command.part))
  local record = whole.record
  local is_same = record.parts == command.parts and record.at == command.at
    and (record.complete or false) == (command.complete or false)
  if not is_same or (part and part.record.fingerprint ~= command.fingerprint) then
    return refusals.refuse(result, command, O.CONFLICT, 'the id is taken by a count with another body')
  end
  movements.included[#movements.included + 1] = whole
  result.outcome, result.detail, result.replayed = record.outcome, record.detail, part and true or nil
  if part then return result end
  if record.outcome ~= O.PARTS_MISSING then return refusals.refuse(result, command, record.outcome, record.detail) end
end

local function store_part(command, whole)
  local lines, index = {}, listed_in(whole)
  for i, line in ipairs(command.lines) do
    lines[i] = {sku = line[1], quantity = line[2], outcome = O.PARTS_MISSING}
    index.parts[line[1]] = command.part
    index.add[#index.add + 1], index.add[#index.add + 2] = command.part, line[1]
  end
  put({warehouse = command.warehouse, id = part_id(command.id, command.part), record = new_record(command, {
    outcome = O.PARTS_MISSING, fingerprint = command.fingerprint, part = command.part, lines = lines,
    origin = command.origin,
  })})
  whole.record.arrived[#whole.record.arrived + 1] = command.part
  local missing, detail = missing_parts(whole.record)
  if missing > 0 then
    whole.record.outcome, whole.record.detail = O.PARTS_MISSING, detail
    schedule(whole, command.at + move_keys.COUNT_MS)
  else
    whole.record.outcome, whole.record.detail, whole.record.arrived = O.COUNTING, nil, nil
    whole.record.progress = {part = 1, line = 1, applied = 0, left_out = 0, zeroed = 0}
    schedule(whole, 0)
  end
  put(whole)
end

local function add(command)
  local result = {warehouse = command.warehouse, id = command.id}
  local whole = movements.get(command.warehouse, command.id)
  local known = whole and known_part(result, command, whole)
  if known then return known end
  if refusals.is_ahead(command) then return refusals.refuse(result, command, O.OCCURRED_IN_FUTURE, 'occurred_at') end
  if command.at < batch.now - move_keys.COUNT_MS then
    return refusals.refuse(result, command, O.COUNT_TOO_OLD, 'occurred_at')
  end
  whole = whole or {warehouse = command.warehouse, id = command.id, record = new_record(command, {
    fingerprint = 'parts', complete = command.complete, arrived = {},
  })}
  for i, line in ipairs(command.lines) do
    local part = part_that_lists(whole, line[1])
    if part then
      local path = 'lines[' .. (i - 1) .. '].sku'
      return refusals.refuse(result, command, O.CONFLICT, string.format('%s: it is in part %d too', path, part))
    end
  end
  store_part(command, whole)
  result.outcome, result.detail = whole.record.outcome, whole.record.detail
  return result
end

-- Steps

local function tally(progress, outcome)
  if outcome == O.COUNTED then
    progress.applied = progress.applied + 1
  else
    progress.left_out, progress.why = progress.left_out + 1, progress.why or outcome
  end
end

local function unlist(whole, part)
  local index = listed_in(whole)
  for _, line in ipairs(part.record.lines) do index.drop[#index.drop + 1] = line.sku end
end

local function next_part(progress) progress.part, progress.line = progress.part + 1, 1 end

-- What `count.line` applies.
local function line_command(whole) return {warehouse = whole.warehouse, at = whole.record.at, kept = true} end

local function step_lines(whole, skus_max)
  local progress = whole.record.progress
  local part = movements.get(whole.warehouse, part_id(whole.id, progress.part))
  if not part then -- an operator removed it
    tally(progress, O.PARTS_MISSING)
    return next_part(progress)
  end
  local command, cause = line_command(whole), {'count', whole.id, whole.warehouse}
  local last = math.min(#part.record.lines, progress.line + skus_max - 1)
  for i = progress.line, last do
    local line = part.record.lines[i]
    part.record.lines[i] = count.line(command, cause, line.sku, line.quantity)
    tally(progress, part.record.lines[i].outcome)
  end
  progress.line = last + 1
  if last == #part.record.lines then
    local record = part.record
    record.outcome, record.detail = count.summary({at = whole.record.at, origin = record.origin}, record.lines)
    record.origin = nil
    unlist(whole, part)
    next_part(progress)
  end
  put(part)
end

-- Set a SKU that no part and no newer count lists to 0 as of the count's time.
local function zero(whole, command, cause, sku)
  if not sku.places.at[whole.warehouse] then return end
  local counted_at = history.counted_at_of(sku, whole.warehouse)
  if counted_at and counted_at >= whole.record.at then return end
  local moved = history.moved_since(sku, whole.warehouse, whole.record.at)
  if skus.count_of(sku, 'on_hand', whole.warehouse) == moved then return end
  local outcome = count.line(command, cause, sku.name, 0).outcome
  tally(whole.record.progress, outcome)
  if outcome == O.COUNTED then whole.record.progress.zeroed = whole.record.progress.zeroed + 1 end
end

-- -> true if no SKU is left
local function step_unlisted(whole, skus_max)
  local progress, bytes = whole.record.progress, 0
  local from = progress.cursor and '(' .. progress.cursor or '-'
  local names = redis.call('ZRANGEBYLEX', KEYS[1] .. 'skus', from, '+', 'LIMIT', 0, skus_max)
  local command, cause = line_command(whole), {'count', whole.id, whole.warehouse}
  for _, sku_name in ipairs(names) do
    if bytes > SCAN_BYTES_MAX then return false end
    bytes = bytes + redis.call('STRLEN', KEYS[1] .. 'sku:' .. sku_name)
    local sku = skus.get(sku_name)
    if sku then zero(whole, command, cause, sku) end
    progress.cursor = sku_name
  end
  return #names < skus_max
end

local function finish_count(whole)
  local progress = whole.record.progress
  local words = {progress.applied - progress.zeroed .. ' lines applied'}
  if progress.zeroed > 0 then words[#words + 1] = progress.zeroed .. ' SKUs that are not listed set to 0' end
  if progress.left_out > 0 then words[#words + 1] = progress.left_out .. ' left out' end
  whole.record.outcome = progress.left_out == 0 and O.COUNTED
    or progress.applied > 0 and O.COUNTED_IN_PART or progress.why
  whole.record.detail, whole.record.progress = table.concat(words, ', '), nil
  schedule(whole, nil)
end

-- Send one received part to the dead letters; one per step, because each may be as large as a request body.
local function abandon_part(whole)
  local progress = whole.record.progress or {part = 1, line = 1, applied = 0, left_out = 0, zeroed = 0}
  local number, missing, detail = whole.record.arrived[progress.part], missing_parts(whole.record)
  if progress.part == 1 then
    alerts.add('count_parts_missing', nil, {
      warehouse = whole.warehouse, quantity = missing, detail = whole.id .. ', ' .. detail,
    })
  end
  local part = movements.get(whole.warehouse, part_id(whole.id, number))
  if part then
    refusals.add({origin = part.record.origin}, O.PARTS_MISSING, detail)
    part.record.outcome, part.record.detail, part.record.origin = O.COUNT_TOO_OLD, detail, nil
    for _, line in ipairs(part.record.lines) do line.outcome = O.COUNT_TOO_OLD end
    unlist(whole, part)
    put(part)
  end
  next_part(progress)
  whole.record.progress = progress
  if progress.part > #whole.record.arrived then
    whole.record.outcome, whole.record.detail, whole.record.progress = O.COUNT_TOO_OLD, detail, nil
    schedule(whole, nil)
  end
end

-- continue_counts {skus_max}: the next step of the first unfinished count.
local function step(command)
  local found = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'counts', '-inf', batch.now, 'LIMIT', 0, 1)[1]
  if not found then return {outcome = O.NOTHING_DUE} end
  local whole = movements.get(string.match(found, '^(.-)\n(.*)$'))
  if not whole or (whole.record.outcome ~= O.COUNTING and whole.record.outcome ~= O.PARTS_MISSING) then
    due.drop[#due.drop + 1] = found
    return {outcome = O.COUNTING}
  end
  if whole.record.outcome == O.PARTS_MISSING then
    abandon_part(whole)
  elseif whole.record.progress.part <= whole.record.parts then
    step_lines(whole, command.skus_max)
    if whole.record.progress.part > whole.record.parts and not whole.record.complete then finish_count(whole) end
  elseif step_unlisted(whole, command.skus_max) then
    finish_count(whole)
  end
  put(whole)
  return {outcome = O.COUNTING}
end

batch.writers[#batch.writers + 1] = function()
  indexes.write('counts', due)
  for name, index in pairs(listed) do indexes.write('listed:' .. name, index) end
end

return {add = add, step = step}
