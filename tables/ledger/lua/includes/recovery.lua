-- Refusals under rules R1 and R3, as the words of `tables.ledger.control.Refusal`.

local server = require('server')

-- Why the relay of `term` may not read or settle: 'higher_term', else 'unblessed'.
local function relay_refusal(prefix, term)
  local stored = tonumber(redis.call('HGET', prefix .. 'blessed', 'term') or '0')
  if stored > tonumber(term) then return 'higher_term' end
  return 'unblessed'
end

-- nil if this server is unblessed, has those ids and belongs to the recovery of `term`; else 'higher_term', 'moved'
-- (another server) or 'superseded'.
local function step_refusal(prefix, term, run_id, replid)
  if relay_refusal(prefix, term) == 'higher_term' then return 'higher_term' end
  local run_id_now, replid_now = server.ids()
  if run_id_now ~= run_id or replid_now ~= replid then return 'moved' end
  local stored = redis.call('HMGET', prefix .. 'blessed', 'run_id', 'replid', 'term')
  if stored[1] == 'none' and stored[2] == 'none' and stored[3] == term then return nil end
  return 'superseded'
end

return {relay_refusal = relay_refusal, step_refusal = step_refusal}
