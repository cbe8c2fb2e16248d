-- restate {keys_max, every_ms}: write whole SKUs and open orders into the journal again, one page per step (rule R9),
-- so that a rebuild needs the journal only since the last complete pass began. Records with a single state (movements,
-- rejected orders) are left out: no late writer can set them back.
-- Key `restate`, a hash: run_id of the server, because a cursor is valid only there; cursor ('' between passes); left,
-- the names of the current page that did not fit (msgpack); from, the first batch of the pass; began, ms.
-- `restate_state`: the new fields of that hash, written after the batch is decided
local restate_state, restate_sku, restate
do

local RESTATE_BYTES_MAX = 1048576 -- 1 MiB of records per step: some 10 ms

function restate_sku(sku)
  local s = get_sku(sku)
  if s then s.must_be_whole = true end
  if s then mark_dirty(s) end
  return s
end

local function restate_order(id)
  local o = get_order(id)
  if o and o.r.state ~= 'rejected' then
    o.restated = true
    orders_restated[#orders_restated + 1] = o
  end
end

-- The SKUs and orders of the next page. -> names with their kind, the cursor after it
local function page_to_restate(cursor, keys_max)
  local page, names = redis.call('SCAN', cursor, 'MATCH', KEYS[1] .. '*', 'COUNT', keys_max), {}
  for _, key in ipairs(page[2]) do
    local name = string.sub(key, #KEYS[1] + 1)
    if string.match(name, '^sku:') or string.match(name, '^order:') then names[#names + 1] = name end
  end
  return names, page[1]
end

-- Restate as many of `names` as fit. -> the rest
local function restate_names(names)
  local fitting, left = names_within('', names, RESTATE_BYTES_MAX), {}
  for _, each in ipairs(fitting) do
    local kind, name = string.match(each, '^(%w+):(.*)$')
    if kind == 'sku' then restate_sku(name) else restate_order(name) end
  end
  for i = #fitting + 1, #names do left[#left + 1] = names[i] end
  return left
end

function restate(cmd, batch)
  local run_id = server_ids()
  local stored = redis.call('HMGET', KEYS[1] .. 'restate', 'run_id', 'cursor', 'from', 'began', 'left')
  local cursor, from, began = stored[2], stored[3], stored[4]
  local how, left = 'going', stored[5] and unpack_all(stored[5]) or {}
  if cursor == '' and now < tonumber(began) + cmd.every_ms then return {outcome = O.NOTHING_DUE} end
  if not cursor or cursor == '' or stored[1] ~= run_id then
    how, cursor, from, began, registry_changed = 'begun', '0', tostring(batch), format_ms(now), true
    left = {}
  end
  if #left == 0 then left, cursor = page_to_restate(cursor, cmd.keys_max) end
  left = restate_names(left)
  if cursor == '0' and #left == 0 then
    cursor = ''
    how = how == 'begun' and 'whole' or 'ended'
  end
  restate_state = {'run_id', run_id, 'cursor', cursor, 'from', from, 'began', began, 'left', pack(left)}
  return {outcome = O.RESTATED, detail = how .. ' ' .. from}
end

end
