-- A step of a rebuild: forget all of a shard, a page of keys at a time. `blessed` stays (rule R3).
-- KEYS[1]  prefix of the shard's keys
-- ARGV[1]  term of the recovery
-- ARGV[2]  run_id, ARGV[3] replid: as seen when the recovery began
-- ARGV[4]  cursor, '0' at the beginning       ARGV[5] keys to look at
-- Returns {'higher_term'}, {'moved'} or {'superseded'}: begin anew; or {'flushed', cursor}: '0' at the end.
-- The head goes first: a server that a recovery left half flushed, or half loaded, is an empty one to the next.
-- @include blessed
-- @include recovery
local prefix = KEYS[1]
local refused = not_in_recovery(prefix, ARGV[1], ARGV[2], ARGV[3])
if refused then return { refused } end

if ARGV[4] == '0' then redis.call('DEL', prefix .. 'head', prefix .. 'settled') end
local page = redis.call('SCAN', ARGV[4], 'MATCH', prefix .. '*', 'COUNT', ARGV[5])
for _, key in ipairs(page[2]) do
  if key ~= prefix .. 'blessed' then redis.call('UNLINK', key) end
end
return { 'flushed', page[1] }
