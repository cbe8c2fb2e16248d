-- An entry of the outbox: a stream whose ids are `<batch>-0`.

-- -> batch, token, previous, payload
local function read(entry)
  local fields = {}
  for at = 1, #entry[2], 2 do fields[entry[2][at]] = entry[2][at + 1] end
  return tonumber(string.match(entry[1], '^(%d+)')), fields.token, fields.previous, fields.payload
end

return {read = read}
