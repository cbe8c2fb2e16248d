-- Refused events from Kafka, which become dead letters with their origin and bytes.

local batch = require('batch')

local list = {}

local function add(command, outcome, detail)
  if command.origin then list[#list + 1] = {outcome, detail or '', command.origin} end
end

-- -> `result` with a refusal
local function refuse(result, command, outcome, detail)
  add(command, outcome, detail)
  result.outcome, result.detail = outcome, detail
  return result
end

-- Rule 40: whether a command is dated in the future. `at` is nil if the caller gave no time.
local function is_ahead(command) return command.at ~= nil and command.at > batch.now + batch.limits.future_ms end

return {list = list, add = add, refuse = refuse, is_ahead = is_ahead}
