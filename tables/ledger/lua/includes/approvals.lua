-- Orders that take units from below every threshold and buffer (`force`). Such an order waits in the state
-- `awaiting_approval` and holds nothing, until a second person decides or its time is over; events of it wait too. Its
-- record has `approval` (tables/ledger/records.py, ApprovalRecord).
-- approve {order_id, actor}, reject {order_id, actor, reason}
-- Key `approvals`, a zset: the order_ids that wait, all with the score 0.

local alerts = require('alerts')
local batch = require('batch')
local indexes = require('indexes')
local orders = require('orders')
local place = require('place')
local release = require('release')
local waiting = require('waiting')

local approvals = {}
local noted = {} -- order_id -> whether it waits

-- Must be called after a change of whether an order waits.
function approvals.note(order) noted[order.id] = order.record.state == 'awaiting_approval' and not order.dropped end

local function set_lines(order, state, reason)
  for _, line in ipairs(order.record.lines) do line.state, line.reason = state, reason end
end

-- Let a new order wait. -> outcome
function approvals.request(order, command)
  local record = order.record
  record.state, record.expires_at = 'awaiting_approval', batch.now + batch.limits.approval_ms
  record.approval = {
    by = command.actor, reason = command.reason, asked_at = batch.now, asked_in = batch.number,
    ends_at = record.expires_at, hold_ms = command.hold_ms, accept = command.accept, supersedes = command.supersedes,
    paid = command.paid,
  }
  set_lines(order, 'awaiting_approval')
  approvals.note(order)
  alerts.add('approval_waiting', nil, {
    order_id = order.id, channel = record.channel, detail = 'requested by ' .. command.actor .. ': ' .. command.reason,
  })
  return O.PARKED
end

-- End the wait; `decide` makes an order of it, or not. Then its events are applied.
local function finish(order, actor, decide)
  orders.mark_changed(order)
  local record, approval = order.record, order.record.approval
  local early = waiting.take_all(order)
  record.state, record.expires_at = 'rejected', nil
  decide(record, approval)
  orders.advance_sequence(order)
  approval.decided_by, approval.decided_at, approval.decided_in = actor, batch.now, batch.number
  approvals.note(order)
  for _, each in ipairs(early) do require('order_event_dispatch').run(each) end
end

local function end_unapproved(order, state, actor, comment)
  finish(order, actor, function(_, approval)
    set_lines(order, 'rejected', 'not_approved')
    approval.state, approval.comment = state, comment
  end)
end

function approvals.expire(order)
  end_unapproved(order, 'expired')
  alerts.add('approval_expired', nil, {
    order_id = order.id, channel = order.record.channel, detail = 'requested by ' .. order.record.approval.by,
  })
end

-- The command that placed the order.
local function command_of(order)
  local record, approval, lines = order.record, order.record.approval, {}
  for i, line in ipairs(record.lines) do lines[i] = {line.sku, line.quantity} end
  return {
    id = record.events[1], order_id = order.id, channel = record.channel, priority = record.priority, lines = lines,
    region = record.region, purpose = record.purpose, force = true, hold_ms = approval.hold_ms,
    accept = approval.accept, supersedes = approval.supersedes, paid = approval.paid,
  }
end

local function decide_order(order, actor)
  finish(order, actor, function(record, approval)
    record.placed_at = batch.now
    set_lines(order, 'rejected')
    place.end_dwells(record.lines)
    local decide = approval.supersedes and require('supersede').decide or place.decide
    record.outcome = decide(order, command_of(order))
    approval.state = record.state == 'rejected' and 'refused' or 'approved'
  end)
end

local ENDS = {approve = {approved = true, refused = true}, reject = {rejected = true}}

local function decide(order, command)
  local approval = order.record.approval
  if command.kind == 'approve' and command.actor == approval.by then return O.CONFLICT, false, 'same_actor' end
  local outcome = command.kind == 'reject' and O.CANCELLED
  if approval.state then
    local is_repeat = ENDS[command.kind][approval.state] and approval.decided_by == command.actor
    if not is_repeat then return O.ALREADY_FINAL, false, 'the request is ' .. approval.state end
    return outcome or order.record.outcome, true
  end
  if outcome then
    end_unapproved(order, 'rejected', command.actor, command.reason)
  else
    decide_order(order, command.actor)
  end
  return outcome or order.record.outcome
end

function approvals.run(command)
  local order, result = orders.get(command.order_id), {order_id = command.order_id, outcome = O.UNKNOWN_ORDER}
  if not order or not order.record.approval then return result end
  release.expire_if_due(order)
  orders.include(order)
  local replayed
  result.outcome, replayed, result.detail = decide(order, command)
  result.replayed = replayed or nil
  return result
end

batch.writers[#batch.writers + 1] = function()
  local lists = {add = {}, drop = {}}
  for id, waits in pairs(noted) do
    if waits then
      lists.add[#lists.add + 1], lists.add[#lists.add + 2] = 0, id
    else
      lists.drop[#lists.drop + 1] = id
    end
  end
  indexes.write('approvals', lists)
end

return approvals
