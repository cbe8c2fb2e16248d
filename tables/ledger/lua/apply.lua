-- Decide a batch of commands, in order, in one atomic step (rules: docs/rules.md). All decisions are made and packed in
-- memory; nothing is written before the size of the payload is known.
--
-- KEYS[1]  the shard's key prefix; see docs/architecture.md for the keys derived from it
-- ARGV[1]  msgpack array of commands (tables/ledger/commands.py)
-- ARGV[2]  token of this attempt
-- ARGV[3]  the caller's time, ms
-- ARGV[4]  msgpack map (tables/ledger/client.py, LedgerLimits)
-- returns  {batch, payload, ms}: payload: msgpack of tables/ledger/records.py, Decision, as written to the outbox; ms:
--          CPU time; batch 0: nothing was due and nothing was written
-- error    UNBLESSED: no takeover blessed this server
-- error    BUSY: the outbox is full
-- error    TOO_LARGE: the batch exceeds what one call may read or one journal record may hold; the caller divides it

local batch = require('batch')
local cpu_time = require('cpu_time')
local dispatch = require('dispatch')
local payload = require('payload')
local prefetch = require('prefetch')
local registry = require('registry')
local server = require('server')
local write = require('write')

local began = cpu_time.ms()

if not server.is_blessed(KEYS[1]) then return redis.error_reply('UNBLESSED no takeover blessed this server') end
local limits = cmsgpack.unpack(ARGV[4])
if redis.call('XLEN', KEYS[1] .. 'outbox') >= limits.outbox_max then
  return redis.error_reply('BUSY the outbox holds ' .. limits.outbox_max .. ' batches that are not settled')
end

local head = redis.call('HMGET', KEYS[1] .. 'head', 'batch', 'token', 'now')
local time = redis.call('TIME')
local server_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local number = tonumber(head[1] or 0) + 1
batch.number, batch.limits = number, limits
batch.now = math.max(tonumber(head[3] or 0), math.min(server_ms, tonumber(ARGV[3])))

local commands = cmsgpack.unpack(ARGV[1])
registry.load()
if not prefetch.run(commands) then
  return redis.error_reply('TOO_LARGE the batch reads more than ' .. prefetch.READ_BYTES_MAX .. ' bytes of records')
end
local results, is_due = {}, false
for i = 1, #commands do
  results[i] = dispatch.run(commands[i])
  is_due = is_due or results[i].outcome ~= O.NOTHING_DUE
end
if not is_due then
  return {0, payload.of(0, results), 0}
end

if batch.has_promises then require('promises').run() end
write.pack()
local packed = payload.of(number, results)
if #packed > limits.payload_bytes_max then
  return redis.error_reply('TOO_LARGE the payload has ' .. #packed .. ' bytes, more than ' .. limits.payload_bytes_max)
end

write.run()
redis.call('HSET', KEYS[1] .. 'head', 'batch', number, 'token', ARGV[2], 'now', batch.now)
redis.call('XADD', KEYS[1] .. 'outbox', number .. '-0', 'token', ARGV[2], 'previous', head[2] or '', 'payload', packed)
return {number, packed, math.floor(cpu_time.ms() - began)}
