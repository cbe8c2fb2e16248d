-- A step of a rebuild: delete a shard's keys, one page per call. `blessed` stays (rule R3).
-- KEYS[1]  prefix of the shard's keys
-- ARGV[1]  term of the recovery
-- ARGV[2]  run_id, ARGV[3] replid: as read by unbless.lua
-- ARGV[4]  cursor, '0' at the beginning       ARGV[5] keys per page
-- Returns {'higher_term'}, {'moved'} or {'superseded'}: restart the recovery; or {'flushed', cursor}: '0' at the end.
-- The head is deleted first: the next recovery treats a half flushed or half loaded server as empty.
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
