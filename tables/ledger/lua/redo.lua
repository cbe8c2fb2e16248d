-- A step of redo (rule R4): write batches that the journal holds and this server lost. Stock is not checked again: the
-- decisions were already answered. The batches come from the journal, so the same step settles them.
--
-- KEYS[1]  the shard's key prefix; writes head, settled, outbox, and what the batches wrote; publishes to `settled`
-- ARGV[1]  term of the recovery
-- ARGV[2]  run_id, as read by unbless.lua
-- ARGV[3]  replid, as read by unbless.lua
-- ARGV[4]  the batch before the first one
-- ARGV[5]  its token ('' for batch 0)
-- ARGV[6]  the time of the last batch, ms
-- ARGV[7]  offset of the journal position after the last batch
-- ARGV[8]  its term
-- ARGV[9]  its owner
-- ARGV[10] its batch
-- ARGV[11] its token
-- ARGV[12] msgpack {{batch, token}, …}: batches whose settlement was not published yet
-- ARGV[13] packed writes; their values follow as ARGV[14…] (includes/rewrite.lua)
-- returns  {'redone'}
-- returns  {'out_of_order', batch}: this server's newest batch is another one
-- returns  {'higher_term'}, {'moved'} or {'superseded'}: restart the recovery

local recovery = require('recovery')
local rewrite = require('rewrite')

local prefix = KEYS[1]
local refused = recovery.step_refusal(prefix, ARGV[1], ARGV[2], ARGV[3])
if refused then return { refused } end
local head = redis.call('HMGET', prefix .. 'head', 'batch', 'token', 'now')
if (head[1] or '0') ~= ARGV[4] or (head[2] or '') ~= ARGV[5] then
  return { 'out_of_order', tonumber(head[1] or '0') }
end

rewrite.run(prefix, ARGV[13], 14)
local now = math.max(tonumber(head[3] or '0'), tonumber(ARGV[6]))
redis.call('HSET', prefix .. 'head', 'batch', ARGV[10], 'token', ARGV[11], 'now', string.format('%.0f', now))
redis.call('HSET', prefix .. 'settled', 'offset', ARGV[7], 'term', ARGV[8], 'owner', ARGV[9], 'batch', ARGV[10],
  'token', ARGV[11])
redis.call('XTRIM', prefix .. 'outbox', 'MINID', '=', string.format('%.0f-0', tonumber(ARGV[10]) + 1))
redis.call('PUBLISH', prefix .. 'settled', ARGV[12])
return { 'redone' }
