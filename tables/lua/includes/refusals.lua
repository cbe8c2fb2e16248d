-- Events from Kafka that were refused: they belong into the dead letters, with their origin and bytes.
local refused = {}
local limits

local function refuse(cmd, outcome, detail)
  if cmd.origin then refused[#refused + 1] = {outcome, detail or '', cmd.origin} end
end
