-- Events from Kafka that were refused: they belong into the dead letters, with their origin and bytes.
local refused = {}

local function refuse(cmd, outcome, detail)
  if cmd.origin then refused[#refused + 1] = {outcome, detail or '', cmd.origin} end
end

-- Rule 40: whether a clock that is wrong dated it. `at` is nil where the caller gave no time.
local function is_ahead(cmd) return cmd.at ~= nil and cmd.at > now + limits.future_ms end
