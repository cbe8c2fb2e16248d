-- A step of a rebuild: write complete states from the derived topics into a flushed server. The last call also stores
-- the position at which the redo of the journal begins; until then this server counts as empty.
--
-- KEYS[1]  the shard's key prefix; writes head, settled, and what the rows hold
-- ARGV[1]  term of the recovery
-- ARGV[2]  run_id, as read by unbless.lua
-- ARGV[3]  replid, as read by unbless.lua
-- ARGV[4]  offset of the start of the redo; '' while more rows follow
-- ARGV[5]  its term
-- ARGV[6]  its owner
-- ARGV[7]  its batch
-- ARGV[8]  its token
-- ARGV[9]  packed states; their values follow as ARGV[10…] (includes/rewrite.lua)
-- returns  {'loaded'}
-- returns  {'out_of_order', batch}: this server was not flushed
-- returns  {'higher_term'}, {'moved'} or {'superseded'}: restart the recovery

local recovery = require('recovery')
local rewrite = require('rewrite')

local prefix = KEYS[1]
local refused = recovery.step_refusal(prefix, ARGV[1], ARGV[2], ARGV[3])
if refused then return { refused } end
local batch = redis.call('HGET', prefix .. 'head', 'batch')
if batch then return { 'out_of_order', tonumber(batch) } end

rewrite.run(prefix, ARGV[9], 10)
if ARGV[4] ~= '' then
  redis.call('HSET', prefix .. 'head', 'batch', ARGV[7], 'token', ARGV[8])
  redis.call('HSET', prefix .. 'settled', 'offset', ARGV[4], 'term', ARGV[5], 'owner', ARGV[6], 'batch', ARGV[7],
    'token', ARGV[8])
end
return { 'loaded' }
