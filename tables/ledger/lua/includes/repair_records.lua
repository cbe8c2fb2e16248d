-- The writes of a repair by subject: `repair_records.put.sku(cmd, old)` and so on; `old` is the stored record or nil. Each
-- returns a table whose `packed` goes into the payload.

local batch = require('batch')
local modes = require('modes')
local movements = require('movements')
local orders = require('orders')
local policies = require('policies')
local registry = require('registry')
local sku_record = require('sku_record')
local skus = require('skus')
local waiting = require('waiting')
local pack = cmsgpack.pack

local put = {}
local removed, index_drops = {}, {}

-- -> `value` if it is a whole number, else 0: the stored record may hold anything
local function whole(value)
  return type(value) == 'number' and value % 1 == 0 and math.abs(value) < 2 ^ 53 and value or 0
end

local function put_delta(name, n)
  if n ~= 0 then skus.log_delta(name, n) end
end

local function end_sku_repair(s, cmd)
  sku_record.marks_of(s).repaired = cmd.id
  s.r[SKU.low], s.r[SKU.high], s.waits, s.must_be_whole = 1, 0, true, true
  modes.finish(s, {'repair', cmd.id, cmd.actor})
  s.waits = true -- rewrite the entry in the index of dwells
  modes.note_dwells(s)
  return s
end

function put.sku(cmd, old)
  local was = old and type(old.counters) == 'table' and old.counters or {}
  local wanted = cmd.wanted.counters or {}
  local s = skus.open(cmd.key, pack(cmd.wanted))
  s.is_new = true
  s.r[SKU.version] = math.max(s.r[SKU.version], old and whole(old.version) or 0)
  skus.begin(s)
  for name, value in pairs(wanted) do put_delta(name, value - whole(was[name])) end
  for name, value in pairs(was) do
    if type(name) == 'string' and not wanted[name] then put_delta(name, -whole(value)) end
  end
  return end_sku_repair(s, cmd)
end

-- The stored bytes have changed, and the error in the counters persists. -> nil if another repair came first
function put.deltas(cmd)
  local s = skus.get(cmd.key)
  if not s or (sku_record.marks_of(s).repaired or '') ~= (cmd.since or '') then return nil end
  skus.begin(s)
  for name, n in pairs(cmd.deltas) do
    local index = sku_record.index_of(s, name)
    local value = index and s.r[index] or s.counters and s.counters[name] or 0
    sku_record.set_counter(s, name, value + n)
    put_delta(name, n)
  end
  sku_record.add_up(s)
  return end_sku_repair(s, cmd)
end

function put.order(cmd)
  local o
  if cmd.wanted then
    o = orders.open(cmd.key, pack(cmd.wanted)) -- a record by field names, as format 1 is
  else
    o = {id = cmd.key, r = {state = 'parked', lines = {}, events = {}}, dropped = true}
    orders.known[cmd.key] = false
  end
  -- All index entries are rewritten, whatever they hold.
  o.changed, o.was_due, o.was_held, o.was_waiting = true, 'unknown', {}, -1
  waiting.forget_sum()
  for _, line in ipairs(o.r.lines) do o.was_held[line.sku] = not line.reserved end
  for _, sku in ipairs(cmd.unheld or {}) do index_drops[#index_drops + 1] = {'held:' .. sku, cmd.key} end
  orders.changed[#orders.changed + 1] = o
  return o
end

function put.movement(cmd)
  local warehouse, id = string.match(cmd.key, '^(.-)\n(.*)$')
  local m = {warehouse = warehouse, id = id, changed = true, r = cmd.wanted}
  movements.known[cmd.key] = m
  movements.included[#movements.included + 1] = m
  return m
end

-- A sweep applies the channels' policies to all SKUs, as after a change of each policy.
function put.registry(cmd, old)
  local was = old and type(old.channels) == 'table' and old.channels or {}
  registry.use(cmd.wanted)
  for channel in pairs(registry.channels) do
    local before = type(was[channel]) == 'table' and type(was[channel].policy) == 'table' and was[channel].policy
    registry.before[channel] = before or registry.before[channel] or {}
    registry.forget_policies(channel)
  end
  policies.start_sweep()
  return {packed = registry.packed()}
end

-- Write a level's row again from the policy in force: only the table changes.
function put.policy(cmd)
  local own
  if cmd.sku then
    local s = skus.get(cmd.sku)
    own = s and s.policies and s.policies[cmd.key]
  else
    local known = registry.channels[cmd.key]
    own = known and known.has_policy and (known.policy or {}) or nil
  end
  policies.note({channel = cmd.key, sku = cmd.sku, actor = cmd.actor}, own, own)
  return {}
end

local function remove(cmd)
  if cmd.subject == 'order' then return put.order(cmd) end
  removed[#removed + 1] = cmd.subject .. ':' .. cmd.key
  if cmd.subject == 'sku' then
    skus.known[cmd.key] = false
    index_drops[#index_drops + 1] = {'skus', cmd.key}
    index_drops[#index_drops + 1] = {'dwells', cmd.key}
  end
  return {}
end

batch.writers[#batch.writers + 1] = function()
  for _, name in ipairs(removed) do redis.call('DEL', KEYS[1] .. name) end
  for _, entry in ipairs(index_drops) do redis.call('ZREM', KEYS[1] .. entry[1], entry[2]) end
end

return {put = put, remove = remove}
