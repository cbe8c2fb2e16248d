-- repair {subject, key, seen, wanted, unheld, deltas, since, actor, …} (tables/ledger/commands.py, Repair): correct one
-- key as an audit read it. If the stored bytes have changed since, nothing is done. Exception: the error in a SKU's
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
    local is_record, s = pcall(sku_record.read, '', packed)
    return is_record and {version = s.r[SKU.version], counters = sku_record.counters_of(s)} or nil
  end
  local found = {pcall(cmsgpack.unpack, packed)}
  return found[1] and #found == 2 and type(found[2]) == 'table' and found[2] or nil
end

-- Whether an earlier command of this batch changed it.
local function is_touched(cmd)
  local s, o = skus.known[cmd.key], orders.known[cmd.key]
  return (cmd.subject == 'sku' and s and s.dirty) or (cmd.subject == 'order' and o and o.changed)
    or (cmd.subject == 'registry' and registry.changed)
end

local function decide_repair(cmd)
  if cmd.subject == 'policy' then return repair_records.put.policy(cmd) end
  local mark, packed = mark_of(cmd.subject == 'registry' and 'registry' or cmd.subject .. ':' .. cmd.key)
  local old = record_in(packed, cmd.subject)
  if mark == cmd.seen and not is_touched(cmd) then
    return cmd.wanted and repair_records.put[cmd.subject](cmd, old) or repair_records.remove(cmd)
  end
  return cmd.subject == 'sku' and cmd.deltas and old and repair_records.put.deltas(cmd) or nil
end

local function run(cmd)
  local made = decide_repair(cmd)
  if not made then return {outcome = O.MOVED_ON, id = cmd.id} end
  batch.repairs[#batch.repairs + 1] = {cmd = cmd, made = made}
  return {outcome = O.REPAIRED, id = cmd.id}
end

-- Rows of tables/ledger/records.py, RepairRow.
local function packed()
  local rows = {}
  for i, each in ipairs(batch.repairs) do
    local cmd = each.cmd
    rows[i] = MSGPACK.ARRAY_7 .. pack(cmd.subject) .. pack(cmd.sku and cmd.key .. '\n' .. cmd.sku or cmd.key) .. pack(cmd.id)
      .. pack(cmd.actor) .. pack(cmd.why or '') .. pack(cmd.before) .. (each.made.packed or MSGPACK.NIL)
  end
  return msgpack.array(rows)
end

return {run = run, packed = packed}
