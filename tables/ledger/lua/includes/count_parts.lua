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

local function part_id(id, n) return id .. ' part ' .. string.format('%d', n) end -- names contain no space

-- Add a new or changed movement to the batch's writes.
local function put(m)
  m.changed, m.packed, m.r.applied_at = true, nil, batch.now
  if not m.r.lines then m.r.lines = {} end
  movements.known[movements.key_of(m.warehouse, m.id)] = m
  movements.included[#movements.included + 1] = m
end

local function schedule(m, at)
  local list = at and due.add or due.drop
  if at then list[#list + 1] = at end
  list[#list + 1] = movements.key_of(m.warehouse, m.id)
end

local function listed_in(m)
  local key = movements.key_of(m.warehouse, m.id)
  listed[key] = listed[key] or {add = {}, drop = {}, parts = {}}
  return listed[key]
end

local function part_that_lists(m, sku)
  return listed_in(m).parts[sku]
    or tonumber(redis.call('ZSCORE', KEYS[1] .. 'listed:' .. movements.key_of(m.warehouse, m.id), sku) or nil)
end

local function missing_parts(r)
  local there, names, missing = {}, {}, 0
  for _, n in ipairs(r.arrived) do there[n] = true end
  for n = 1, r.parts do
    if not there[n] then
      missing = missing + 1
      if #names < PARTS_NAMED_MAX then names[#names + 1] = string.format('%d', n) end
    end
  end
  local more = missing > #names and ' and ' .. missing - #names .. ' more' or ''
  return missing, 'missing parts: ' .. table.concat(names, ', ') .. more
end

local function new_record(cmd, fields)
  fields.kind, fields.at, fields.parts = 'count', cmd.at, cmd.parts
  return fields
end

local function refused_part(result, cmd, outcome, detail)
  refusals.add(cmd, outcome, detail)
  result.outcome, result.detail = outcome, detail
  return result
end

-- -> the result of a part that is a repeat or contradicts the earlier parts, or nil
local function known_part(result, cmd, m)
  local part = movements.get(cmd.warehouse, part_id(cmd.id, cmd.part))
  if m.r.parts ~= cmd.parts or m.r.at ~= cmd.at or (m.r.complete or false) ~= (cmd.complete or false)
    or (part and part.r.fingerprint ~= cmd.fingerprint) then
    return refused_part(result, cmd, O.CONFLICT, 'the id is taken by a count with another body')
  end
  movements.included[#movements.included + 1] = m
  result.outcome, result.detail, result.replayed = m.r.outcome, m.r.detail, part and true or nil
  if part then return result end
  if m.r.outcome ~= O.PARTS_MISSING then return refused_part(result, cmd, m.r.outcome, m.r.detail) end
end

local function store_part(cmd, m)
  local lines, index = {}, listed_in(m)
  for i, line in ipairs(cmd.lines) do
    lines[i] = {sku = line[1], quantity = line[2], outcome = O.PARTS_MISSING}
    index.parts[line[1]] = cmd.part
    index.add[#index.add + 1], index.add[#index.add + 2] = cmd.part, line[1]
  end
  put({warehouse = cmd.warehouse, id = part_id(cmd.id, cmd.part), r = new_record(cmd, {
    outcome = O.PARTS_MISSING, fingerprint = cmd.fingerprint, part = cmd.part, lines = lines, origin = cmd.origin,
  })})
  m.r.arrived[#m.r.arrived + 1] = cmd.part
  local missing, detail = missing_parts(m.r)
  if missing > 0 then
    m.r.outcome, m.r.detail = O.PARTS_MISSING, detail
    schedule(m, cmd.at + move_keys.COUNT_MS)
  else
    m.r.outcome, m.r.detail, m.r.arrived = O.COUNTING, nil, nil
    m.r.progress = {part = 1, line = 1, applied = 0, left_out = 0, zeroed = 0}
    schedule(m, 0)
  end
  put(m)
end

local function add(cmd)
  local result = {warehouse = cmd.warehouse, id = cmd.id}
  local m = movements.get(cmd.warehouse, cmd.id)
  local known = m and known_part(result, cmd, m)
  if known then return known end
  if refusals.is_ahead(cmd) then return refused_part(result, cmd, O.OCCURRED_IN_FUTURE, 'occurred_at') end
  if cmd.at < batch.now - move_keys.COUNT_MS then return refused_part(result, cmd, O.COUNT_TOO_OLD, 'occurred_at') end
  m = m or {warehouse = cmd.warehouse, id = cmd.id, r = new_record(cmd, {
    fingerprint = 'parts', complete = cmd.complete, arrived = {},
  })}
  for i, line in ipairs(cmd.lines) do
    local n = part_that_lists(m, line[1])
    if n then
      local path = 'lines[' .. (i - 1) .. '].sku'
      return refused_part(result, cmd, O.CONFLICT, string.format('%s: it is in part %d too', path, n))
    end
  end
  store_part(cmd, m)
  result.outcome, result.detail = m.r.outcome, m.r.detail
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

local function unlist(m, part)
  local index = listed_in(m)
  for _, line in ipairs(part.r.lines) do index.drop[#index.drop + 1] = line.sku end
end

local function next_part(progress) progress.part, progress.line = progress.part + 1, 1 end

local function step_lines(m, skus_max)
  local progress = m.r.progress
  local part = movements.get(m.warehouse, part_id(m.id, progress.part))
  if not part then -- an operator removed it
    tally(progress, O.PARTS_MISSING)
    return next_part(progress)
  end
  local cmd, cause = {warehouse = m.warehouse, at = m.r.at, kept = true}, {'count', m.id, m.warehouse}
  local last = math.min(#part.r.lines, progress.line + skus_max - 1)
  for i = progress.line, last do
    local line = part.r.lines[i]
    part.r.lines[i] = count.line(cmd, cause, line.sku, line.quantity)
    tally(progress, part.r.lines[i].outcome)
  end
  progress.line = last + 1
  if last == #part.r.lines then
    part.r.outcome, part.r.detail = count.summary({at = m.r.at, origin = part.r.origin}, part.r.lines)
    part.r.origin = nil
    unlist(m, part)
    next_part(progress)
  end
  put(part)
end

-- Set a SKU that no part and no newer count lists to 0 as of the count's time.
local function zero(m, cmd, cause, s)
  if not s.places.at[m.warehouse] then return end
  local counted_at = history.counted_at_of(s, m.warehouse)
  if counted_at and counted_at >= m.r.at then return end
  if skus.count_of(s, 'on_hand', m.warehouse) == history.moved_since(s, m.warehouse, m.r.at) then return end
  local outcome = count.line(cmd, cause, s.sku, 0).outcome
  tally(m.r.progress, outcome)
  if outcome == O.COUNTED then m.r.progress.zeroed = m.r.progress.zeroed + 1 end
end

-- -> true if no SKU is left
local function step_unlisted(m, skus_max)
  local progress, bytes = m.r.progress, 0
  local from = progress.cursor and '(' .. progress.cursor or '-'
  local names = redis.call('ZRANGEBYLEX', KEYS[1] .. 'skus', from, '+', 'LIMIT', 0, skus_max)
  local cmd, cause = {warehouse = m.warehouse, at = m.r.at, kept = true}, {'count', m.id, m.warehouse}
  for _, sku in ipairs(names) do
    if bytes > SCAN_BYTES_MAX then return false end
    bytes = bytes + redis.call('STRLEN', KEYS[1] .. 'sku:' .. sku)
    local s = skus.get(sku)
    if s then zero(m, cmd, cause, s) end
    progress.cursor = sku
  end
  return #names < skus_max
end

local function finish_count(m)
  local p = m.r.progress
  local words = {p.applied - p.zeroed .. ' lines applied'}
  if p.zeroed > 0 then words[#words + 1] = p.zeroed .. ' SKUs that are not listed set to 0' end
  if p.left_out > 0 then words[#words + 1] = p.left_out .. ' left out' end
  m.r.outcome = p.left_out == 0 and O.COUNTED or p.applied > 0 and O.COUNTED_IN_PART or p.why
  m.r.detail, m.r.progress = table.concat(words, ', '), nil
  schedule(m, nil)
end

-- Send one received part to the dead letters; one per step, because each may be as large as a request body.
local function abandon_part(m)
  local progress = m.r.progress or {part = 1, line = 1, applied = 0, left_out = 0, zeroed = 0}
  local number, missing, detail = m.r.arrived[progress.part], missing_parts(m.r)
  if progress.part == 1 then
    alerts.add('count_parts_missing', nil, {warehouse = m.warehouse, quantity = missing, detail = m.id .. ', ' .. detail})
  end
  local part = movements.get(m.warehouse, part_id(m.id, number))
  if part then
    refusals.add({origin = part.r.origin}, O.PARTS_MISSING, detail)
    part.r.outcome, part.r.detail, part.r.origin = O.COUNT_TOO_OLD, detail, nil
    for _, line in ipairs(part.r.lines) do line.outcome = O.COUNT_TOO_OLD end
    unlist(m, part)
    put(part)
  end
  next_part(progress)
  m.r.progress = progress
  if progress.part > #m.r.arrived then
    m.r.outcome, m.r.detail, m.r.progress = O.COUNT_TOO_OLD, detail, nil
    schedule(m, nil)
  end
end

-- continue_counts {skus_max}: the next step of the first unfinished count.
local function step(cmd)
  local found = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'counts', '-inf', batch.now, 'LIMIT', 0, 1)[1]
  if not found then return {outcome = O.NOTHING_DUE} end
  local m = movements.get(string.match(found, '^(.-)\n(.*)$'))
  if not m or (m.r.outcome ~= O.COUNTING and m.r.outcome ~= O.PARTS_MISSING) then
    due.drop[#due.drop + 1] = found
    return {outcome = O.COUNTING}
  end
  if m.r.outcome == O.PARTS_MISSING then
    abandon_part(m)
  elseif m.r.progress.part <= m.r.parts then
    step_lines(m, cmd.skus_max)
    if m.r.progress.part > m.r.parts and not m.r.complete then finish_count(m) end
  elseif step_unlisted(m, cmd.skus_max) then
    finish_count(m)
  end
  put(m)
  return {outcome = O.COUNTING}
end

batch.writers[#batch.writers + 1] = function()
  indexes.write('counts', due)
  for name, index in pairs(listed) do indexes.write('listed:' .. name, index) end
end

return {add = add, step = step}
