-- A step of redo (rule R4): batches that the journal holds and this server lost, without asking again whether the stock
-- is there: they were promised. They were read back from the journal, and so they are settled with the same step.
-- KEYS[1]  prefix of the shard's keys; blessed, head, settled, outbox, whatever the batches wrote, the channel `settled`
-- ARGV[1]  term of the recovery
-- ARGV[2]  run_id, ARGV[3] replid: as seen when the recovery began
-- ARGV[4]  the batch before the first one, ARGV[5] its token ('' for batch 0)
-- ARGV[6]  the time of the last batch, ms
-- ARGV[7…11] offset, term, owner, batch, token: the journal's position after the last of them
-- ARGV[12] msgpack {{batch, token}, …}: what nobody was told to be settled
-- ARGV[13…] what they wrote, packed, and the values (includes/rewrite.lua)
-- Returns {'higher_term'}, {'moved'} or {'superseded'}: begin anew; {'out_of_order', batch}: this server stands at
--         another batch; or {'replayed'}.
-- @include blessed
-- @include recovery
-- @include move_keys
-- @include rewrite
local prefix = KEYS[1]
local refused = not_in_recovery(prefix, ARGV[1], ARGV[2], ARGV[3])
if refused then return { refused } end
local head = redis.call('HMGET', prefix .. 'head', 'batch', 'token', 'now')
if (head[1] or '0') ~= ARGV[4] or (head[2] or '') ~= ARGV[5] then
  return { 'out_of_order', tonumber(head[1] or '0') }
end

rewrite(prefix, ARGV[13], 14)
local now = math.max(tonumber(head[3] or '0'), tonumber(ARGV[6]))
redis.call('HSET', prefix .. 'head', 'batch', ARGV[10], 'token', ARGV[11], 'now', string.format('%.0f', now))
redis.call('HSET', prefix .. 'settled', 'offset', ARGV[7], 'term', ARGV[8], 'owner', ARGV[9], 'batch', ARGV[10],
  'token', ARGV[11])
redis.call('XTRIM', prefix .. 'outbox', 'MINID', '=', string.format('%.0f-0', tonumber(ARGV[10]) + 1))
redis.call('PUBLISH', prefix .. 'settled', ARGV[12])
return { 'replayed' }
