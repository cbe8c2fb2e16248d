-- The dispatcher: the step of each kind of command (tables/ledger/commands.py).
local run
do

-- Rule 40, for new commands only: a repeat is answered from the order, whatever its time. -> a result, or nil: go on
local function refuse_ahead(cmd)
  if not cmd.order_id or not is_ahead(cmd) then return nil end
  local o = get_order(cmd.order_id)
  if is_placed(o) and (cmd.kind == 'place' or event_of(o, cmd)) then return nil end
  if is_placed(o) then include_order(o) end
  refuse(cmd, O.OCCURRED_IN_FUTURE, 'occurred_at')
  return {outcome = O.OCCURRED_IN_FUTURE, order_id = cmd.order_id, detail = 'occurred_at'}
end

function run(cmd, batch)
  local kind, ahead = cmd.kind, refuse_ahead(cmd)
  if ahead then return ahead end
  moves.order_id = cmd.order_id
  if kind == 'place' then return place(cmd) end
  if ORDER_EVENTS[kind] then return on_order_event(cmd) end
  if MOVEMENTS[kind] then return on_movement(cmd) end
  if kind == 'tick' then return tick(cmd) end
  if kind == 'write_whole' then return write_whole(cmd) end
  if kind == 'continue_counts' then return counts.step(cmd) end
  if kind == 'sweep' then return {outcome = sweep(cmd.skus_max) and O.SWEPT or O.NOTHING_DUE} end
  if kind == 'set_policy' then return set_policy(cmd) end
  if kind == 'delete_policy' then return delete_policy(cmd) end
  if kind == 'know_channel' then return know_channel(cmd) end
  if kind == 'restate' then return restate(cmd, batch) end
  if kind == 'repair' then return repairs.run(cmd) end
  error('unknown command kind ' .. tostring(kind))
end

end
