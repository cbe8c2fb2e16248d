-- A step of a rebuild: delete a shard's keys, one page per call. `blessed` stays (rule R3). The head is deleted first:
-- the next recovery treats a half flushed or half loaded server as empty.
--
-- KEYS[1]  the shard's key prefix
-- ARGV[1]  term of the recovery
-- ARGV[2]  run_id, as read by unbless.lua
-- ARGV[3]  replid, as read by unbless.lua
-- ARGV[4]  cursor, '0' at the beginning
-- ARGV[5]  keys per page
-- returns  {'flushed', cursor}: '0' at the end
-- returns  {'higher_term'}, {'moved'} or {'superseded'}: restart the recovery

local recovery = require('recovery')

local prefix = KEYS[1]
local refused = recovery.step_refusal(prefix, ARGV[1], ARGV[2], ARGV[3])
if refused then return { refused } end

if ARGV[4] == '0' then redis.call('DEL', prefix .. 'head', prefix .. 'settled') end
local page = redis.call('SCAN', ARGV[4], 'MATCH', prefix .. '*', 'COUNT', ARGV[5])
for _, key in ipairs(page[2]) do
  if key ~= prefix .. 'blessed' then redis.call('UNLINK', key) end
end
return { 'flushed', page[1] }
