-- A step of a rebuild: write complete states from the derived topics into a flushed server. The last call also stores
-- the position at which the redo of the journal begins; until then this server counts as empty.
-- KEYS[1]  prefix of the shard's keys; blessed, head, settled, and what the rows hold
-- ARGV[1]  term of the recovery
-- ARGV[2]  run_id, ARGV[3] replid: as read by unbless.lua
-- ARGV[4…8] offset, term, owner, batch, token: the start of the redo; ARGV[4] is '' while more rows follow
-- ARGV[9…] packed states and their values (includes/rewrite.lua)
-- Returns {'higher_term'}, {'moved'} or {'superseded'}: restart the recovery; {'out_of_order', batch}: this server was
--         not flushed; or {'loaded'}.
-- @include blessed
-- @include recovery
-- @include move_keys
-- @include sku_record
-- @include rewrite
local prefix = KEYS[1]
local refused = not_in_recovery(prefix, ARGV[1], ARGV[2], ARGV[3])
if refused then return { refused } end
local batch = redis.call('HGET', prefix .. 'head', 'batch')
if batch then return { 'out_of_order', tonumber(batch) } end

rewrite(prefix, ARGV[9], 10)
if ARGV[4] ~= '' then
  redis.call('HSET', prefix .. 'head', 'batch', ARGV[7], 'token', ARGV[8])
  redis.call('HSET', prefix .. 'settled', 'offset', ARGV[4], 'term', ARGV[5], 'owner', ARGV[6], 'batch', ARGV[7],
    'token', ARGV[8])
end
return { 'loaded' }
