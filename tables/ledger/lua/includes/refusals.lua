-- Refused events from Kafka, which become dead letters with their origin and bytes.
local refused = {}

local function refuse(cmd, outcome, detail)
  if cmd.origin then refused[#refused + 1] = {outcome, detail or '', cmd.origin} end
end

-- Rule 40: whether a command is dated in the future. `at` is nil if the caller gave no time.
local function is_ahead(cmd) return cmd.at ~= nil and cmd.at > now + limits.future_ms end
