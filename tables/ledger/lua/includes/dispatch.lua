-- The dispatcher: the step of each kind of command (tables/ledger/commands.py).

local batch = require('batch')
local orders = require('orders')
local refusals = require('refusals')

-- Rule 40, for new commands only: a repeat is answered from the order, whatever its time. -> a result, or nil: go on
local function refuse_ahead(command)
  if not command.order_id or not refusals.is_ahead(command) then return nil end
  local order = orders.get(command.order_id)
  if command.kind == 'place' and orders.is_requested(order) then return nil end
  if orders.is_placed(order) and orders.event_of(order, command) then return nil end
  if orders.is_placed(order) then orders.include(order) end
  refusals.add(command, O.OCCURRED_IN_FUTURE, 'occurred_at')
  return {outcome = O.OCCURRED_IN_FUTURE, order_id = command.order_id, detail = 'occurred_at'}
end

-- A module that no command needs is never loaded.
local function run(command)
  local kind, ahead = command.kind, refuse_ahead(command)
  if ahead then return ahead end
  batch.order_id = command.order_id
  if kind == 'place' then return require('place_dispatch').run(command) end
  if kind == 'pay' or kind == 'cancel' or kind == 'extend' or kind == 'ship' or kind == 'take_back'
    or kind == 'change' or kind == 'hold_back' or kind == 'assign' then
    return require('order_event_dispatch').run(command)
  end
  if kind == 'approve' or kind == 'reject' then return require('approvals').run(command) end
  if kind == 'receive' or kind == 'adjust' or kind == 'count' or kind == 'transfer' or kind == 'void'
    or kind == 'expect' or kind == 'reserve' or kind == 'release' then
    return require('movement_dispatch').run(command)
  end
  if kind == 'tick' then return require('tick').run(command) end
  if kind == 'write_whole' then return require('tick').write_whole(command) end
  if kind == 'continue_counts' then return require('count_parts').step(command) end
  if kind == 'sweep' then return require('policies').run_sweep(command) end
  if kind == 'set_policy' then return require('policies').set(command) end
  if kind == 'delete_policy' then return require('policies').delete(command) end
  if kind == 'know_channel' then return require('policies').know_channel(command) end
  if kind == 'restate' then return require('restate').run(command) end
  if kind == 'repair' then return require('repair').run(command) end
  error('unknown command kind ' .. tostring(kind))
end

return {run = run}
