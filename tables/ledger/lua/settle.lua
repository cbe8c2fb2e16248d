-- Settle batches read back from the journal (rules R1, R6): trim the outbox, store the position, notify the callers.
-- The settled position never moves back; each trimmed entry is compared first.
--
-- KEYS[1]  the shard's key prefix; reads blessed, writes outbox and settled; publishes to `settled`
-- ARGV[1]  term of the relay
-- ARGV[2]  msgpack {{batch, token}, …}: valid records, ascending and dense
-- ARGV[3]  offset of the journal position after the last record (or after a marker)
-- ARGV[4]  its term
-- ARGV[5]  its owner
-- ARGV[6]  its batch
-- ARGV[7]  its token
-- returns  {'settled', newest settled batch}
-- returns  {'fork', batch}: the outbox does not hold what the journal holds: take over
-- returns  {'unblessed'} or {'higher_term'}: take over

local outbox_entry = require('outbox_entry')
local recovery = require('recovery')
local server = require('server')

local prefix, term = KEYS[1], ARGV[1]
if not server.is_blessed(prefix, term) then return { recovery.relay_refusal(prefix, term) } end

local stored = redis.call('HMGET', prefix .. 'settled', 'batch', 'offset', 'token')
local settled, settled_offset, settled_token = tonumber(stored[1] or '0'), tonumber(stored[2] or '0'), stored[3] or ''
local pairs_read = cmsgpack.unpack(ARGV[2])
local fresh = {}
for _, read in ipairs(pairs_read) do
  if read[1] > settled then fresh[#fresh + 1] = read end
  if read[1] == settled and read[2] ~= settled_token then return { 'fork', settled } end
end

local found = {}
if #fresh > 0 then
  local first, last = string.format('%d-0', fresh[1][1]), string.format('%d-0', fresh[#fresh][1])
  found = redis.call('XRANGE', prefix .. 'outbox', first, last)
end
for at, read in ipairs(fresh) do
  local batch, token
  if found[at] then batch, token = outbox_entry.read(found[at]) end
  if read[1] ~= settled + at or batch ~= read[1] or token ~= read[2] then return { 'fork', read[1] } end
end

local offset, batch_last = tonumber(ARGV[3]), tonumber(ARGV[6])
if batch_last > settled + #fresh or (#fresh > 0 and offset <= settled_offset) then return { 'fork', batch_last } end
if batch_last < settled or offset <= settled_offset then return { 'settled', settled } end
redis.call('HSET', prefix .. 'settled', 'batch', ARGV[6], 'token', ARGV[7], 'offset', ARGV[3], 'term', ARGV[4],
  'owner', ARGV[5])
if #fresh > 0 then
  redis.call('XTRIM', prefix .. 'outbox', 'MINID', '=', string.format('%d-0', batch_last + 1))
  redis.call('PUBLISH', prefix .. 'settled', cmsgpack.pack(fresh))
end
return { 'settled', batch_last }
