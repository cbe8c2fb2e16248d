-- restate {keys_max, every_ms}: write whole SKUs, open orders and announcements into the journal again, one page per
-- step (rule R9), so that a rebuild needs the journal only since the last complete pass began. Records with a single
-- state (other movements, rejected orders) are left out: no late writer can set them back.
-- Key `restate`, a hash: run_id of the server, because a cursor is valid only there; cursor ('' between passes); left,
-- the names of the current page that did not fit (msgpack); from, the first batch of the pass; began, ms.

local batch = require('batch')
local movements = require('movements')
local orders = require('orders')
local prefetch = require('prefetch')
local registry = require('registry')
local server = require('server')
local skus = require('skus')
local pack = cmsgpack.pack

local RESTATE_BYTES_MAX = 1048576 -- 1 MiB of records per step: some 10 ms

local function restate_sku(name)
  local sku = skus.get(name)
  if sku then sku.must_be_whole = true end
  if sku then skus.mark_dirty(sku) end
  return sku
end

local function restate_order(id)
  local order = orders.get(id)
  if order and order.record.state ~= 'rejected' then
    order.restated = true
    for _, line in ipairs(order.record.lines) do
      if line.preordered or line.short then require('queue').note(order, line) end -- an older release kept no queue
      if line.reserved and order.record.priority == 'vip' then require('held').restate(order, line.sku) end
    end
    orders.restated[#orders.restated + 1] = order
  end
end

local function restate_movement(key)
  local movement = movements.get(string.match(key, '^(.-)\n(.*)$'))
  if movement then movement.changed, movements.included[#movements.included + 1] = true, movement end
end

-- Whether a movement is an announcement that is listed: another one has a single state.
local function is_announcement(name)
  local key = string.match(name, '^movement:(.*)$')
  return key and redis.call('ZSCORE', KEYS[1] .. 'expected', key)
end

-- The SKUs, orders and announcements of the next page. -> names with their kind, the cursor after it
local function page_to_restate(cursor, keys_max)
  local page, names = redis.call('SCAN', cursor, 'MATCH', KEYS[1] .. '*', 'COUNT', keys_max), {}
  for _, key in ipairs(page[2]) do
    local name = string.sub(key, #KEYS[1] + 1)
    if string.match(name, '^sku:') or string.match(name, '^order:') or is_announcement(name) then
      names[#names + 1] = name
    end
  end
  return names, page[1]
end

local RESTATED = {sku = restate_sku, order = restate_order, movement = restate_movement}

-- Restate as many of `names` as fit. -> the rest
local function restate_names(names)
  local fitting, left = prefetch.names_within('', names, RESTATE_BYTES_MAX), {}
  for _, each in ipairs(fitting) do
    local kind, name = string.match(each, '^(%w+):(.*)$')
    RESTATED[kind](name)
  end
  for i = #fitting + 1, #names do left[#left + 1] = names[i] end
  return left
end

local function run(command)
  local run_id = server.ids()
  local stored = redis.call('HMGET', KEYS[1] .. 'restate', 'run_id', 'cursor', 'from', 'began', 'left')
  local cursor, from, began = stored[2], stored[3], stored[4]
  local how, left = 'going', stored[5] and cmsgpack.unpack(stored[5]) or {}
  if cursor == '' and batch.now < tonumber(began) + command.every_ms then return {outcome = O.NOTHING_DUE} end
  if not cursor or cursor == '' or stored[1] ~= run_id then
    how, cursor, from, began = 'begun', '0', tostring(batch.number), string.format('%.0f', batch.now)
    left, registry.changed = {}, true
  end
  if #left == 0 then left, cursor = page_to_restate(cursor, command.keys_max) end
  left = restate_names(left)
  if cursor == '0' and #left == 0 then
    cursor = ''
    how = how == 'begun' and 'whole' or 'ended'
  end
  batch.writers[#batch.writers + 1] = function()
    redis.call('HSET', KEYS[1] .. 'restate', 'run_id', run_id, 'cursor', cursor, 'from', from, 'began', began,
      'left', pack(left))
  end
  return {outcome = O.RESTATED, detail = how .. ' ' .. from}
end

return {sku = restate_sku, run = run}
