-- The dispatcher: the step of each kind of command (tables/ledger/commands.py).

local batch = require('batch')
local orders = require('orders')
local refusals = require('refusals')

local ORDER_EVENTS = {pay = true, cancel = true, extend = true, ship = true, take_back = true}
local MOVEMENTS = {receive = true, adjust = true, count = true, transfer = true}

-- Rule 40, for new commands only: a repeat is answered from the order, whatever its time. -> a result, or nil: go on
local function refuse_ahead(cmd)
  if not cmd.order_id or not refusals.is_ahead(cmd) then return nil end
  local o = orders.get(cmd.order_id)
  if orders.is_placed(o) and (cmd.kind == 'place' or orders.event_of(o, cmd)) then return nil end
  if orders.is_placed(o) then orders.include(o) end
  refusals.add(cmd, O.OCCURRED_IN_FUTURE, 'occurred_at')
  return {outcome = O.OCCURRED_IN_FUTURE, order_id = cmd.order_id, detail = 'occurred_at'}
end

-- A module that no command needs is never loaded.
local function run(cmd)
  local kind, ahead = cmd.kind, refuse_ahead(cmd)
  if ahead then return ahead end
  batch.order_id = cmd.order_id
  if kind == 'place' then return require('place_dispatch').run(cmd) end
  if ORDER_EVENTS[kind] then return require('order_event_dispatch').run(cmd) end
  if MOVEMENTS[kind] then return require('movement_dispatch').run(cmd) end
  if kind == 'tick' then return require('tick').run(cmd) end
  if kind == 'write_whole' then return require('tick').write_whole(cmd) end
  if kind == 'continue_counts' then return require('count_parts').step(cmd) end
  if kind == 'sweep' then return require('policies').run_sweep(cmd) end
  if kind == 'set_policy' then return require('policies').set(cmd) end
  if kind == 'delete_policy' then return require('policies').delete(cmd) end
  if kind == 'know_channel' then return require('policies').know_channel(cmd) end
  if kind == 'restate' then return require('restate').run(cmd) end
  if kind == 'repair' then return require('repair').run(cmd) end
  error('unknown command kind ' .. tostring(kind))
end

return {run = run}
