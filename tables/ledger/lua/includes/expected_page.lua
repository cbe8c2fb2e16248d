-- A page of the listed announcements (includes/announcements.lua), in the order of their keys.

local msgpack = require('msgpack')
local pack = cmsgpack.pack

local SCANNED_MAX = 1000 -- entries of an index per call: a ms
local PAGE_BYTES_MAX = 1048576 -- 1 MiB of records per call

-- The keys after `cursor`, of one warehouse or all ('').
local function keys_after(warehouse, sku_name, overdue, cursor)
  local index = sku_name ~= '' and 'expected:' .. sku_name or overdue == 'true' and 'overdue' or 'expected'
  local from, to = '-', '+'
  if warehouse ~= '' then from, to = '[' .. warehouse .. '\n', '(' .. warehouse .. '\v' end -- \v follows \n
  if cursor ~= '' then from = '(' .. cursor end
  return redis.call('ZRANGEBYLEX', KEYS[1] .. index, from, to, 'LIMIT', 0, SCANNED_MAX)
end

-- -> the packed record of an announcement that is wanted
local function record_of(key, overdue)
  local is_overdue = overdue ~= '' and (redis.call('ZSCORE', KEYS[1] .. 'overdue', key) and 'true' or 'false')
  if is_overdue and is_overdue ~= overdue then return false end
  return redis.call('GET', KEYS[1] .. 'movement:' .. key)
end

-- -> msgpack [cursor of the next page or '', [[key, record], …]]
local function read(warehouse, sku_name, overdue, cursor, limit)
  local keys, rows, bytes, last = keys_after(warehouse, sku_name, overdue, cursor), {}, 0, ''
  for i, key in ipairs(keys) do
    local packed = record_of(key, overdue)
    if packed then rows[#rows + 1], bytes = MSGPACK.ARRAY_2 .. pack(key) .. packed, bytes + #packed end
    local is_full = #rows == tonumber(limit) or bytes > PAGE_BYTES_MAX
    if i == SCANNED_MAX or (is_full and i < #keys) then
      last = key
      break
    end
  end
  return MSGPACK.ARRAY_2 .. pack(last) .. msgpack.array(rows)
end

return {read = read}
