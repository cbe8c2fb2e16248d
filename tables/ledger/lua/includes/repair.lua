-- repair {subject, key, seen, wanted, unheld, deltas, since, actor, …} (tables/ledger/commands.py, Repair): correct one
-- key as an audit read it. If the stored bytes have changed since, nothing is done. Exception: the error in a SKU's
-- counters persists through changes, and `deltas` corrects it unless another repair came first.
-- `seen`: sha1 of the stored bytes, `absent`, or `type:` and the type of a key that is no string.
do

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
  local s, o = skus[cmd.key], orders[cmd.key]
  return (cmd.subject == 'sku' and s and s.dirty) or (cmd.subject == 'order' and o and o.changed)
    or (cmd.subject == 'registry' and registry_changed)
end

local function decide_repair(cmd)
  if cmd.subject == 'policy' then return repairs.put.policy(cmd) end
  local mark, packed = mark_of(cmd.subject == 'registry' and 'registry' or cmd.subject .. ':' .. cmd.key)
  local old = record_in(packed, cmd.subject)
  if mark == cmd.seen and not is_touched(cmd) then
    return cmd.wanted and repairs.put[cmd.subject](cmd, old) or repairs.remove(cmd)
  end
  return cmd.subject == 'sku' and cmd.deltas and old and repairs.put.deltas(cmd) or nil
end

function repairs.run(cmd)
  local made = decide_repair(cmd)
  if not made then return {outcome = O.MOVED_ON, id = cmd.id} end
  repairs.list[#repairs.list + 1] = {cmd = cmd, made = made}
  return {outcome = O.REPAIRED, id = cmd.id}
end

function repairs.write()
  for _, name in ipairs(repairs.removed) do redis.call('DEL', KEYS[1] .. name) end
  for _, entry in ipairs(repairs.index_drops) do redis.call('ZREM', KEYS[1] .. entry[1], entry[2]) end
end

-- Rows of tables/ledger/records.py, RepairRow.
function repairs.packed()
  local rows = {}
  for i, each in ipairs(repairs.list) do
    local cmd = each.cmd
    rows[i] = '\151' .. pack(cmd.subject) .. pack(cmd.sku and cmd.key .. '\n' .. cmd.sku or cmd.key) .. pack(cmd.id)
      .. pack(cmd.actor) .. pack(cmd.why or '') .. pack(cmd.before) .. (each.made.packed or '\192')
  end
  return packed_array(rows)
end
end
