-- repair {subject, key, seen, wanted, unindexed, deltas, since, actor, …} (tables/ledger/commands.py, Repair): correct
-- one key as an audit read it. If the stored bytes have changed since, nothing is done. Exception: the error in a SKU's
-- counters persists through changes, and `deltas` corrects it unless another repair came first.
-- `seen`: sha1 of the stored bytes, `absent`, or `type:` and the type of a key that is no string.

local batch = require('batch')
local msgpack = require('msgpack')
local orders = require('orders')
local registry = require('registry')
local repair_records = require('repair_records')
local sku_record = require('sku_record')
local skus = require('skus')
local pack = cmsgpack.pack

local function mark_of(name)
  local kind = redis.call('TYPE', KEYS[1] .. name).ok
  if kind == 'none' then return 'absent' end
  if kind ~= 'string' then return 'type:' .. kind end
  local packed = redis.call('GET', KEYS[1] .. name)
  return redis.sha1hex(packed), packed
end

-- -> the record in `packed`, or nil if it is not exactly one table; of a SKU its version and counters by name
local function record_in(packed, subject)
  if not packed then return nil end
  if subject == 'sku' then
    local is_record, sku = pcall(sku_record.read, '', packed)
    return is_record and {version = sku.numbers[SKU.version], counters = sku_record.counters_of(sku)} or nil
  end
  local found = {pcall(cmsgpack.unpack, packed)}
  return found[1] and #found == 2 and type(found[2]) == 'table' and found[2] or nil
end

-- Whether an earlier command of this batch changed it.
local function is_touched(command)
  local sku, order = skus.known[command.key], orders.known[command.key]
  return (command.subject == 'sku' and sku and sku.dirty) or (command.subject == 'order' and order and order.changed)
    or (command.subject == 'registry' and registry.changed)
end

local function decide_repair(command)
  if command.subject == 'policy' then return repair_records.put.policy(command) end
  local mark, packed = mark_of(command.subject == 'registry' and 'registry' or command.subject .. ':' .. command.key)
  local old = record_in(packed, command.subject)
  if mark == command.seen and not is_touched(command) then
    return command.wanted and repair_records.put[command.subject](command, old) or repair_records.remove(command)
  end
  return command.subject == 'sku' and command.deltas and old and repair_records.put.deltas(command) or nil
end

local function run(command)
  local made = decide_repair(command)
  if not made then return {outcome = O.MOVED_ON, id = command.id} end
  batch.repairs[#batch.repairs + 1] = {command = command, made = made}
  return {outcome = O.REPAIRED, id = command.id}
end

-- Rows of tables/ledger/records.py, RepairRow.
local function packed()
  local rows = {}
  for i, each in ipairs(batch.repairs) do
    local command = each.command
    local key = command.sku and command.key .. '\n' .. command.sku or command.key
    rows[i] = MSGPACK.ARRAY_7 .. pack(command.subject) .. pack(key) .. pack(command.id) .. pack(command.actor)
      .. pack(command.why or '') .. pack(command.before) .. (each.made.packed or MSGPACK.NIL)
  end
  return msgpack.array(rows)
end

return {run = run, packed = packed}
