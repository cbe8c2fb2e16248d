-- Decide a batch of commands, in order, in one atomic step (design, sections 7 and 9).
--
-- KEYS[1]  the shard's key prefix; see docs/architecture.md for the keys derived from it
-- ARGV[1]  msgpack array of commands (tables/commands.py)
-- ARGV[2]  token of this attempt
-- ARGV[3]  the caller's time, ms
-- ARGV[4]  msgpack map {outbox_max, park_ms, order_retention_ms, refused_retention_ms, movement_retention_ms}
--
-- -> {batch, payload}: the payload is msgpack of tables/records.py, Decision, and lies in the outbox;
--    batch 0: nothing was due, nothing was written
-- error UNBLESSED: no takeover blessed this server      error BUSY: the outbox is full
--
-- Everything is decided in memory first; nothing is written before the last command is decided.
-- @include outcomes
-- @include blessed
-- @include pack

local now

-- @include sku
-- @include registry
-- @include offer
-- @include modes
-- @include draw
-- @include history
-- @include order
-- @include prefetch
-- @include release
-- @include place
-- @include supersede
-- @include events
-- @include take_back
-- @include movements
-- @include count
-- @include policies
-- @include refusals
-- @include order_events
-- @include orders
-- @include movement_events
-- @include restate
-- @include repair_records
-- @include repair
-- @include tick
-- @include write
-- @include payload

if not is_blessed(KEYS[1]) then return redis.error_reply('UNBLESSED no takeover blessed this server') end
limits = unpack_all(ARGV[4])
if redis.call('XLEN', KEYS[1] .. 'outbox') >= limits.outbox_max then
  return redis.error_reply('BUSY the outbox holds ' .. limits.outbox_max .. ' batches that are not settled')
end

local head = redis.call('HMGET', KEYS[1] .. 'head', 'batch', 'token', 'now')
local server = redis.call('TIME')
local server_ms = server[1] * 1000 + math.floor(server[2] / 1000)
now = math.max(tonumber(head[3] or 0), math.min(server_ms, tonumber(ARGV[3])))

local commands = unpack_all(ARGV[1])
load_registry()
prefetch(commands)
local batch = tonumber(head[1] or 0) + 1
local results, is_due = {}, false
for i, cmd in ipairs(commands) do
  results[i] = run(cmd, batch)
  is_due = is_due or results[i].outcome ~= O.NOTHING_DUE
end
if not is_due then
  return {0, '\156' .. pack(FORMAT) .. pack(0) .. pack(now) .. pack(results) .. '\144\144\144\144\144\192\144\144'}
end

local set = {}
write_orders(set)
write_skus(set)
write_movements()
mending.write()
if registry_changed then set[#set + 1], set[#set + 2] = KEYS[1] .. 'registry', packed_registry() end
call_many('MSET', nil, set)
if restate_stand then redis.call('HSET', KEYS[1] .. 'restate', unpack(restate_stand)) end

local previous = head[2] or ''
local payload = payload_of(batch, results)
redis.call('HSET', KEYS[1] .. 'head', 'batch', batch, 'token', ARGV[2], 'now', now)
redis.call('XADD', KEYS[1] .. 'outbox', batch .. '-0', 'token', ARGV[2], 'previous', previous, 'payload', payload)
return {batch, payload}
