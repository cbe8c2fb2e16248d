-- The digest of a level's policy: what a caller has read, so that it changes nothing else (If-Match).

local DIGITS = 16 -- 64 bits: two policies of one level do not meet by chance

-- A number has one text, whatever it was packed as; no name contains a line feed.
local function text_of(value)
  if type(value) == 'number' then return string.format('%.17g', value) end
  if type(value) == 'table' then return table.concat(value, '\n') end
  return tostring(value)
end

-- Fields in one order, which that of Lua's tables is not. `policy` nil: the level has none, which is not an empty one.
local function of(policy)
  local fields = {}
  for name, value in pairs(policy or {}) do fields[#fields + 1] = name .. '\n' .. text_of(value) end
  table.sort(fields)
  local text = policy and 'policy\n' .. table.concat(fields, '\n\n') or 'none'
  return string.sub(redis.sha1hex(text), 1, DIGITS)
end

return {of = of}
