-- Rule R1: nothing is decided, settled or relayed unless this very server was blessed by a takeover.
-- `server_ids()` -> run_id, master_replid of the server that runs this script.
-- `is_blessed(prefix, term)` -> true if the key `blessed` names this server (and holds `term`, where one is given).
local function server_ids()
  local info = redis.call('INFO', 'server', 'replication')
  return string.match(info, 'run_id:(%w+)'), string.match(info, 'master_replid:(%w+)')
end

local function is_blessed(prefix, term)
  local stored = redis.call('HMGET', prefix .. 'blessed', 'run_id', 'replid', 'term')
  if not stored[1] then return false end
  local run_id, replid = server_ids()
  return stored[1] == run_id and stored[2] == replid and (term == nil or stored[3] == term)
end
