-- Promised dates (decision 0114). The lines that wait for a SKU take their units, in the order of its queue, from its
-- announcements, earliest first (announced.lua): `promised_at` of a line is the `eta` of the last one that it needs.
-- The dates follow once, at the end of a batch. The line of a new order that is the last one takes what is free. After
-- any other change a pass goes through the queue. A batch goes through a bounded number of orders; the SKU is in the
-- sorted set `promises`, by the ms from which the tick goes on, until its pass has ended.
-- `promise_pass` of the SKU: {place, id: the entry before the next; left: units by announcement that it has not given;
-- again: another pass follows; due}. One without `place` has not begun.

local alerts = require('alerts')
local announced = require('announced')
local batch = require('batch')
local fill = require('fill')
local modes = require('modes')
local order_budget = require('order_budget')
local orders = require('orders')
local prefetch = require('prefetch')
local queue = require('queue')
local queue_merge = require('queue_merge')
local registry = require('registry')
local skus = require('skus')

local promises = {}

local CHANNELS_PER_ORDER = 5 -- reading their queues costs as much as another order for each so many
local PASS_BYTES_MAX = 131072 -- 128 KiB of records of orders per batch, or one order: some ms
local SKUS_PER_TICK, SKUS_BYTES_MAX = 64, 524288 -- 512 KiB of records of SKUs: some ms
-- What changes a long queue while a pass goes on waits for the next one, so that passes leave time for orders.
local PASS_REST_MS = 1000
local DAY_MS = 86400000
local QUEUE_BEGIN = -2 ^ 53 -- before every place

local works, list = {}, {} -- by SKU: {name, marked, ticked, appended: ids, changed: ids}
local noted = {} -- SKU -> its entry in `promises`, or false
local spent, spent_bytes = 0, 0

-- Fills and passes of a batch share the bound on orders.
local function has_room()
  return spent + order_budget.spent() < batch.limits.fill_orders_max and spent_bytes < PASS_BYTES_MAX
end

local function work_of(sku)
  local work = works[sku.name]
  if not work then
    work = {name = sku.name, appended = {}, changed = {}, last_number = 0}
    works[sku.name], list[#list + 1] = work, work
  end
  return work
end

-- Let a pass follow: the queue, the announcements or a policy of the SKU changed.
function promises.mark(sku) work_of(sku).marked = true end

-- Bring the SKU up to an announcement of which `units` are to come.
function promises.announce(sku, key, eta, units)
  local each = sku.announced and sku.announced[key]
  if units == (each and each[2] or 0) and (not each or each[1] == eta) then return end
  sku.announced = sku.announced or {}
  sku.announced[key] = units > 0 and {eta, units, units} or nil
  if next(sku.announced) == nil then sku.announced = nil end
  sku.by_eta, sku.named_changed, sku.promises_changed = nil, true, true
  promises.mark(sku)
end

-- Whether a line that waits is the last one of the queue.
local function is_last(sku, order, line, work)
  local number = order.record.queued
  if not number or not queue.is_of_batch(number) or number < work.last_number then return false end
  work.last_number = number
  if line.short then return not line.preordered and sku.queued == (sku.promised or 0) - (sku.filling or 0) end
  return line.preordered ~= nil and order.record.priority ~= 'vip'
end

-- Note a change of the units that a line waits for.
function promises.note(sku, order, line)
  local work = work_of(sku)
  work.changed[#work.changed + 1] = order.id
  local is_known = work.appended[order.id]
  if is_last(sku, order, line, work) then
    if not is_known then work.appended[#work.appended + 1], work.appended[order.id] = order.id, line.sku end
  else
    work.marked = true
  end
end

local function line_in(id, sku_name)
  local order = orders.get(id)
  return order, order and orders.line_of(order, sku_name)
end

-- Units that the next fills give a line: none while it is held back.
local function waiting_units(order, line)
  if not line or not queue.place_of(order.record, line) then return 0 end
  return (line.short or 0) + (line.preordered or 0)
end

-- Flag an order once whose promise moved too far.
local function report_slip(order, line, policy)
  local days, record = policy.slip_days_max, order.record
  if not days or record.choice_due or line.promised_at - line.first_promised_at <= days * DAY_MS then return end
  record.choice_due = true
  alerts.add('choice_due', nil, {order_id = order.id, channel = record.channel})
end

-- Promise a line its date, or none. What an order is promised in the batch that places it belongs to its placing.
local function promise(order, line, policy, eta)
  if line.promised_at == eta then return end
  orders.mark_changed(order)
  local before = line.promised_at or line.first_promised_at
  line.promised_at = eta
  if eta then
    line.first_promised_at = line.first_promised_at or eta
    if before and eta > before then orders.add_to(line, 'slips', 1) end
    report_slip(order, line, policy)
  end
  if order.was_held ~= orders.none_held and not order.repromised then
    order.repromised = true
    orders.advance_sequence(order)
  end
end

local function visit(sku, pass, entry, policy)
  local known = orders.known[entry[2]]
  local order, line = line_in(entry[2], sku.name)
  spent = spent + 1
  if order and not known then spent_bytes = spent_bytes + #(order.packed or '') end
  local units = waiting_units(order, line)
  if units > 0 then promise(order, line, policy, announced.take(sku, pass.left, policy, units)) end
  pass.place, pass.id = entry[1], entry[2]
end

local function begin_pass(sku, pass)
  pass.place, pass.id, pass.again, pass.due, pass.left = QUEUE_BEGIN, '', nil, nil, {}
  for key, each in pairs(sku.announced or {}) do pass.left[key] = each[2] end
end

-- Go on with the pass of a SKU as far as there is room. -> whether it has ended
local function go_through(sku, pass)
  if not pass.place then begin_pass(sku, pass) end
  pass.left = pass.left or {}
  local channels = fill.waiting_channels(sku)
  spent = spent + math.floor(#channels / CHANNELS_PER_ORDER)
  local first = spent
  for entry, policy in queue_merge.entries(sku.name, channels, {pass.place, pass.id}) do
    if spent > first and not has_room() then return false end
    visit(sku, pass, entry, policy)
  end
  return true
end

-- Until a pass has ended, the next buyer comes after all units that wait, as if all could come from any warehouse.
local function estimate_free(sku, appended)
  local units, left = (sku.queued or 0) - (sku.filling or 0), {}
  for _, id in ipairs(appended) do units = units - waiting_units(line_in(id, sku.name)) end
  units = math.max(0, units)
  for key, each in pairs(sku.announced or {}) do left[key] = each[2] end
  announced.take(sku, left, nil, units)
  for key, each in pairs(sku.announced or {}) do each[3] = left[key] or 0 end
end

-- End a pass: what it has not given is free, unless something changed meanwhile.
local function end_pass(sku, pass)
  if pass.again then
    sku.promise_pass = {again = true, due = batch.now + PASS_REST_MS}
    return estimate_free(sku, {})
  end
  for key, each in pairs(sku.announced or {}) do each[3] = pass.left[key] or 0 end
  sku.promise_pass = nil
end

-- Promise the lines of new orders that are the last ones of the queue. A pass may have come to them.
local function append(sku, work)
  local pass = sku.promise_pass
  for _, id in ipairs(work.appended) do
    local order, line = line_in(id, sku.name)
    local units = waiting_units(order, line)
    local entry = units > 0 and {queue.place_of(order.record, line), id}
    if entry and not (pass and pass.place and not queue.is_before({pass.place, pass.id}, entry)) then
      local left, policy = {}, registry.policy_of(sku, order.record.channel)
      for key, each in pairs(sku.announced or {}) do left[key] = each[3] > 0 and each[3] or nil end
      promise(order, line, policy, announced.take(sku, left, policy, units))
      for key, each in pairs(sku.announced or {}) do each[3] = left[key] or 0 end
    end
  end
end

function promises.index(sku) noted[sku.name] = sku.promise_pass and (sku.promise_pass.due or 0) or false end

local function begin_or_repeat(sku)
  local pass = sku.promise_pass
  if pass and pass.place then
    pass.again = true
  elseif not pass then
    sku.promise_pass = {again = true}
  end
end

-- Go on with the SKU's pass, unless units on the shelf are still given to its first orders. -> whether it has ended
local function settle_pass(sku, work)
  local pass = sku.promise_pass
  local may_begin = work.ticked or (not pass.place and not pass.due)
  if not may_begin or sku.filling or (sku.queued and not has_room()) then return false end
  if work.ticked then modes.touch(sku, {'promise', '', sku.name}) end
  pass.left = pass.left or {}
  local has_ended = go_through(sku, pass)
  if has_ended then end_pass(sku, pass) elseif next(pass.left) == nil then pass.left = nil end
  return has_ended
end

local function settle(sku, work)
  for _, id in ipairs(work.changed) do
    local order, line = line_in(id, sku.name)
    if line and waiting_units(order, line) == 0 then line.promised_at = nil end
  end
  if work.marked and not sku.logged_from then modes.touch(sku, {'promise', '', sku.name}) end
  if work.marked then begin_or_repeat(sku) end
  local has_ended = sku.promise_pass and settle_pass(sku, work)
  if work.marked and not has_ended then estimate_free(sku, work.appended) end
  if not has_ended then append(sku, work) end
  sku.named_changed, sku.promises_changed = true, true
  promises.index(sku)
end

-- Bring promised dates up to the batch's changes.
function promises.run()
  for _, work in ipairs(list) do
    local sku = skus.get(work.name)
    if sku then settle(sku, work) end
  end
end

-- Go on with passes that earlier batches did not end. -> how many SKUs were due
function promises.go_on()
  local names = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'promises', '-inf', batch.now, 'LIMIT', 0, SKUS_PER_TICK)
  names = prefetch.names_within('sku:', names, SKUS_BYTES_MAX)
  prefetch.skus_named(names)
  local count = 0
  for _, sku_name in ipairs(names) do
    local sku = skus.get(sku_name)
    if not sku or not sku.promise_pass then -- a repair removed it
      noted[sku_name] = false
      count = count + 1
    elseif not sku.filling then
      work_of(sku).ticked = true
      count = count + 1
    end
  end
  return count
end

batch.has_promises = true

batch.writers[#batch.writers + 1] = function()
  local lists = {add = {}, drop = {}}
  for sku_name, due in pairs(noted) do
    local changes = due and lists.add or lists.drop
    if due then changes[#changes + 1] = string.format('%.0f', due) end
    changes[#changes + 1] = sku_name
  end
  require('indexes').write('promises', lists)
end

return promises
