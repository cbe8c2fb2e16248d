-- restate {keys_max, every_ms}: SKUs and open orders written into the journal anew, whole, a page at a time (rule R9):
-- a rebuild then needs no more of the journal than since a pass began. What has one state only (a movement, a refused
-- order) can never be set back, and is left out.
-- Key `restate`, a hash: run_id of the server, whose cursor is worth nothing to another one; cursor ('' between two
-- passes); from, the batch with which the pass began; began, ms.
local restate_stand -- what is to be written there, once the whole batch is decided

local function restate_sku(sku)
  local s = get_sku(sku)
  if s and not s.dirty then
    s.dirty = true
    sku_order[#sku_order + 1] = s
  end
end

local function restate_order(id)
  local o = get_order(id)
  if o and o.r.state ~= 'rejected' then
    o.restated = true
    orders_restated[#orders_restated + 1] = o
  end
end

local function restate_page(cursor, keys_max)
  local page = redis.call('SCAN', cursor, 'MATCH', KEYS[1] .. '*', 'COUNT', keys_max)
  for _, key in ipairs(page[2]) do
    local kind, name = string.match(string.sub(key, #KEYS[1] + 1), '^(%w+):(.*)$')
    if kind == 'sku' then restate_sku(name) elseif kind == 'order' then restate_order(name) end
  end
  return page[1]
end

local function restate(cmd, batch)
  local run_id = server_ids()
  local stand = redis.call('HMGET', KEYS[1] .. 'restate', 'run_id', 'cursor', 'from', 'began')
  local cursor, from, began = stand[2], stand[3], stand[4]
  local how = 'going'
  if cursor == '' and now < tonumber(began) + cmd.every_ms then return {outcome = O.NOTHING_DUE} end
  if not cursor or cursor == '' or stand[1] ~= run_id then
    how, cursor, from, began, registry_changed = 'begun', '0', tostring(batch), format_ms(now), true
  end
  cursor = restate_page(cursor, cmd.keys_max)
  if cursor == '0' then
    cursor = ''
    how = how == 'begun' and 'whole' or 'ended'
  end
  restate_stand = {'run_id', run_id, 'cursor', cursor, 'from', from, 'began', began}
  return {outcome = O.RESTATED, detail = how .. ' ' .. from}
end
