-- Rule R1: a server decides, settles and relays only after a takeover has blessed it.

-- -> run_id, master_replid of this server
local function ids()
  local info = redis.call('INFO', 'server', 'replication')
  return string.match(info, 'run_id:(%w+)'), string.match(info, 'master_replid:(%w+)')
end

-- Whether the key `blessed` names this server (and holds `term`, if given).
local function is_blessed(prefix, term)
  local stored = redis.call('HMGET', prefix .. 'blessed', 'run_id', 'replid', 'term')
  if not stored[1] then return false end
  local run_id, replid = ids()
  return stored[1] == run_id and stored[2] == replid and (term == nil or stored[3] == term)
end

return {ids = ids, is_blessed = is_blessed}
