-- The relay's read (rule R1): outbox entries from a batch on. Gaps are not checked here: the reader of the journal
-- checks the chain.
--
-- KEYS[1]  the shard's key prefix; reads blessed and outbox
-- ARGV[1]  term of the relay
-- ARGV[2]  first batch
-- ARGV[3]  most entries
-- ARGV[4]  bytes of payload after which no further entry is added
-- returns  {'ok', {batch, token, previous, payload}, …}
-- returns  {'unblessed'} or {'higher_term'}: take over

local outbox_entry = require('outbox_entry')
local recovery = require('recovery')
local server = require('server')

local CHUNK = 16 -- entries per read: few large payloads are copied beyond the limit
local prefix, term = KEYS[1], ARGV[1]
if not server.is_blessed(prefix, term) then return { recovery.relay_refusal(prefix, term) } end

local batch_next, entries_max, bytes_max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local answer, bytes = { 'ok' }, 0
while #answer <= entries_max and bytes < bytes_max do
  local wanted = math.min(CHUNK, entries_max + 1 - #answer)
  local found = redis.call('XRANGE', prefix .. 'outbox', string.format('%d-0', batch_next), '+', 'COUNT', wanted)
  for _, entry in ipairs(found) do
    local batch, token, previous, payload = outbox_entry.read(entry)
    answer[#answer + 1] = { batch, token, previous, payload }
    batch_next, bytes = batch + 1, bytes + #payload
    if bytes >= bytes_max then break end
  end
  if #found < wanted then break end
end
return answer
