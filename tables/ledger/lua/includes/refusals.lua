-- Refused events from Kafka, which become dead letters with their origin and bytes.

local batch = require('batch')

local list = {}

local function add(cmd, outcome, detail)
  if cmd.origin then list[#list + 1] = {outcome, detail or '', cmd.origin} end
end

-- Rule 40: whether a command is dated in the future. `at` is nil if the caller gave no time.
local function is_ahead(cmd) return cmd.at ~= nil and cmd.at > batch.now + batch.limits.future_ms end

return {list = list, add = add, is_ahead = is_ahead}
