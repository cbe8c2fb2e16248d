-- `supersedes` (rule 27): a new order replaces an earlier unpaid hold of its channel and may use its units. The old
-- order is cancelled first, and restored if the new one is rejected.

local batch = require('batch')
local modes = require('modes')
local orders = require('orders')
local place = require('place')
local release = require('release')
local rollback = require('rollback')
local waiting = require('waiting')

-- -> a refusal, or nil and the earlier order if it is a hold to cancel
local function superseded(command)
  local old = command.supersedes and command.supersedes ~= command.order_id and orders.get(command.supersedes)
  if not orders.is_placed(old) then return nil, nil end
  release.expire_if_due(old)
  if old.record.channel ~= command.channel then return O.CONFLICT, nil end
  if old.record.state == 'paid' or old.record.state == 'shipped' then return O.ALREADY_FINAL, nil end
  return nil, old.record.state == 'reserved' and old or nil
end

-- Decide the new order with the old hold's units available. -> outcome
local function decide(order, command)
  local refusal, old = superseded(command)
  if refusal then
    for _, line in ipairs(order.record.lines) do line.reason = refusal end
    return refusal
  end
  if not old then return place.decide(order, command) end
  orders.mark_changed(old)
  local saved = rollback.save(old, old.record.lines)
  batch.fills_wait = true
  release.cancel_unshipped(old, {'cancel', command.id, old})
  local outcome = place.decide(order, command)
  batch.fills_wait = false
  if order.record.state == 'rejected' then
    rollback.restore(saved)
  else
    modes.go_on_with_lines(old.record.lines)
    orders.include(old)
    waiting.settle(old)
  end
  return outcome
end

return {decide = decide}
