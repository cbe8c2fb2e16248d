-- What operators did to orders, for the audit: rows of tables/ledger/records.py, ActionRow, in `batch.actions`.

local batch = require('batch')

local actions = {}

function actions.is_held_back(order, line)
  local held_back = order.record.held_back
  return held_back ~= nil and held_back[line.sku] ~= nil
end

-- A line as an action shows it before and after.
function actions.describe(order, line)
  return {
    line.sku, line.reserved or 0, line.preordered or 0, line.short or 0, actions.is_held_back(order, line),
  }
end

-- `action`: held_back, released or assigned.
function actions.note(action, order, command, before, after)
  batch.actions[#batch.actions + 1] = {
    action, order.id, command.id, command.actor or 'operator', command.reason, before, after,
  }
end

return actions
