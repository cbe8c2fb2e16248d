-- Decide a batch of commands, in order, in one atomic step (rules: docs/rules.md).
--
-- KEYS[1]  the shard's key prefix; see docs/architecture.md for the keys derived from it
-- ARGV[1]  msgpack array of commands (tables/ledger/commands.py)
-- ARGV[2]  token of this attempt
-- ARGV[3]  the caller's time, ms
-- ARGV[4]  msgpack map tables/ledger/client.py, LedgerLimits
--
-- -> {batch, payload, ms}: payload: msgpack of tables/ledger/records.py, Decision, as written to the outbox; ms: CPU
--    time; batch 0: nothing was due and nothing was written
-- error UNBLESSED: no takeover blessed this server      error BUSY: the outbox is full
-- error TOO_LARGE: the batch exceeds what one call may read or one journal record may hold; the caller divides it
--
-- All decisions are made and packed in memory; nothing is written before the size of the payload is known.
-- @include codes
-- @include blessed
-- @include pack

local began = os.clock()
local now, limits, batch

-- @include sku_record
-- @include order_record
-- @include sku
-- @include registry
-- @include offer
-- @include modes
-- @include draw
-- @include move_keys
-- @include history
-- @include order
-- @include prefetch
-- @include release
-- @include place
-- @include supersede
-- @include order_event_steps
-- @include take_back
-- @include refusals
-- @include waiting
-- @include movement_steps
-- @include count
-- @include policies
-- @include order_event_dispatch
-- @include orders
-- @include movement_dispatch
-- @include restate
-- @include repair_records
-- @include repair
-- @include write
-- @include tick
-- @include payload
-- @include count_parts
-- @include dispatch

if not is_blessed(KEYS[1]) then return redis.error_reply('UNBLESSED no takeover blessed this server') end
limits = unpack_all(ARGV[4])
if redis.call('XLEN', KEYS[1] .. 'outbox') >= limits.outbox_max then
  return redis.error_reply('BUSY the outbox holds ' .. limits.outbox_max .. ' batches that are not settled')
end

local head = redis.call('HMGET', KEYS[1] .. 'head', 'batch', 'token', 'now')
local server = redis.call('TIME')
local server_ms = server[1] * 1000 + math.floor(server[2] / 1000)
batch = tonumber(head[1] or 0) + 1
now = math.max(tonumber(head[3] or 0), math.min(server_ms, tonumber(ARGV[3])))

local commands = unpack_all(ARGV[1])
load_registry()
if not prefetch(commands) then
  return redis.error_reply('TOO_LARGE the batch reads more than ' .. READ_BYTES_MAX .. ' bytes of records')
end
local results, is_due = {}, false
for i, cmd in ipairs(commands) do
  results[i] = run(cmd, batch)
  is_due = is_due or results[i].outcome ~= O.NOTHING_DUE
end
if not is_due then
  return {0, payload.of(0, results), 0}
end

writing.pack()
local packed = payload.of(batch, results)
if #packed > limits.payload_bytes_max then
  return redis.error_reply('TOO_LARGE the payload has ' .. #packed .. ' bytes, more than ' .. limits.payload_bytes_max)
end

writing.run()
repairs.write()
move_keys.put(KEYS[1], moves.list, now)
counts.write()
if restate_state then redis.call('HSET', KEYS[1] .. 'restate', unpack(restate_state)) end
local previous = head[2] or ''
redis.call('HSET', KEYS[1] .. 'head', 'batch', batch, 'token', ARGV[2], 'now', now)
redis.call('XADD', KEYS[1] .. 'outbox', batch .. '-0', 'token', ARGV[2], 'previous', previous, 'payload', packed)
return {batch, packed, math.floor((os.clock() - began) * 1000)}
