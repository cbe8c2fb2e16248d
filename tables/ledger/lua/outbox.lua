-- The relay's read (rule R1): what the ledger decided from a batch on.
-- KEYS[1]  prefix of the shard's keys; reads blessed, outbox
-- ARGV[1]  term of the relay
-- ARGV[2]  first batch wanted
-- ARGV[3]  entries at most
-- ARGV[4]  bytes of payload after which no further entry is added
-- Returns {'unblessed'} or {'higher_term'}: take over; or {'ok', {batch, token, previous, payload}, …}, dense or not:
--         the reader of the journal is who checks the chain.
-- @include blessed
-- @include recovery
-- @include entry
local CHUNK = 16 -- entries looked at in one go: a large payload is not copied in vain
local prefix, term = KEYS[1], ARGV[1]
if not is_blessed(prefix, term) then return { refusal(prefix, term) } end

local batch_next, entries_max, bytes_max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local answer, bytes = { 'ok' }, 0
while #answer <= entries_max and bytes < bytes_max do
  local wanted = math.min(CHUNK, entries_max + 1 - #answer)
  local found = redis.call('XRANGE', prefix .. 'outbox', string.format('%d-0', batch_next), '+', 'COUNT', wanted)
  for _, entry in ipairs(found) do
    local batch, token, previous, payload = entry_of(entry)
    answer[#answer + 1] = { batch, token, previous, payload }
    batch_next, bytes = batch + 1, bytes + #payload
    if bytes >= bytes_max then break end
  end
  if #found < wanted then break end
end
return answer
