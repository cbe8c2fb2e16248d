-- The last step of a recovery (rule R5): bless this server if its outbox continues the journal without a gap.
--
-- KEYS[1]  the shard's key prefix; reads head and outbox, writes blessed
-- ARGV[1]  term of the recovery
-- ARGV[2]  run_id, as read by unbless.lua
-- ARGV[3]  replid, as read by unbless.lua
-- ARGV[4]  m, the last valid batch in the journal
-- ARGV[5]  its token ('' for batch 0)
-- returns  {'blessed'}
-- returns  {'broken', batch}: the outbox does not chain from m to this server's newest batch; `batch` is the first one
--          that is missing or unchained
-- returns  {'higher_term'}, {'moved'} or {'superseded'}: restart the recovery

local outbox_entry = require('outbox_entry')
local recovery = require('recovery')

local CHUNK = 64 -- entries per read: payloads are large
local prefix, term = KEYS[1], ARGV[1]
local refused = recovery.step_refusal(prefix, term, ARGV[2], ARGV[3])
if refused then return { refused } end

local head = redis.call('HMGET', prefix .. 'head', 'batch', 'token')
local head_batch, head_token = tonumber(head[1] or '0'), head[2] or ''
local batch, token = tonumber(ARGV[4]), ARGV[5]
while batch < head_batch do
  local first = string.format('%d-0', batch + 1)
  local found = redis.call('XRANGE', prefix .. 'outbox', first, '+', 'COUNT', CHUNK)
  if #found == 0 then return { 'broken', batch + 1 } end
  for _, entry in ipairs(found) do
    local batch_here, token_here, previous = outbox_entry.read(entry)
    if batch_here ~= batch + 1 or previous ~= token then return { 'broken', batch + 1 } end
    batch, token = batch_here, token_here
  end
end
if batch ~= head_batch or token ~= head_token then return { 'broken', batch } end

redis.call('HSET', prefix .. 'blessed', 'run_id', ARGV[2], 'replid', ARGV[3], 'term', term)
return { 'blessed' }
