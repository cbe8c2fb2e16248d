-- Movements of on_hand for late counts, outside the SKU record that orders read (rule 41). One hash per SKU and hour of
-- occurred_at, `moves:<sku>\n<hour>`. Its fields hold the units moved at a warehouse in the hour (`<warehouse>`), a
-- minute (`<warehouse>\nm<minute>`), a second (`<warehouse>\ns<second>`) and a ms (`<warehouse>\n<ms>`). A movement
-- writes four fields; a count reads a bounded number, whatever the rate of movements.
local move_keys = {HOUR_MS = 3600000, COUNT_MS = 24 * 3600000}
-- Movements are kept an hour longer than a count may reach back: a count in steps ends within that time.
move_keys.KEPT_MS = move_keys.COUNT_MS + move_keys.HOUR_MS

function move_keys.key_of(prefix, sku_name, hour)
  return prefix .. 'moves:' .. sku_name .. '\n' .. string.format('%.0f', hour)
end

-- An older version stored movements as text, one line per warehouse. -> the line of `warehouse` or nil, and the other
-- lines or nil
function move_keys.split_history(text, warehouse)
  local lines = '\n' .. text .. '\n'
  local from = string.find(lines, '\n' .. warehouse .. ' ', 1, true)
  if not from then return nil, text end
  local to = string.find(lines, '\n', from + 1, true)
  local rest = string.sub(lines, 2, from) .. string.sub(lines, to + 1, -2)
  if string.sub(rest, -1) == '\n' then rest = string.sub(rest, 1, -2) end
  return string.sub(lines, from + 1, to - 1), rest ~= '' and rest or nil
end

local FIELDS_MAX = 2000 -- per call: Lua's `unpack` overflows the C stack at about 8,000 values

-- Add units to fields. A key that held none of them gets the time to live `left`.
local function add_units(key, units, left)
  local names = {}
  for field in pairs(units) do names[#names + 1] = field end
  local is_new = true
  for from = 1, #names, FIELDS_MAX do
    local to = math.min(from + FIELDS_MAX - 1, #names)
    local values = redis.call('HMGET', key, unpack(names, from, to))
    local fields = {}
    for i = from, to do
      local value = values[i - from + 1]
      local sum = units[names[i]] + tonumber(value or 0)
      is_new = is_new and not value
      fields[#fields + 1], fields[#fields + 2] = names[i], string.format('%.0f', sum)
    end
    redis.call('HSET', key, unpack(fields))
  end
  if is_new then redis.call('PEXPIRE', key, string.format('%.0f', left)) end
end

-- moved: [[sku, warehouse, at, units], …]; `now`: the ledger's time, ms
function move_keys.put(prefix, moved, now)
  local keys, order = {}, {}
  for _, movement in ipairs(moved) do
    local warehouse, at, moved_units = movement[2], movement[3], movement[4]
    local hour = math.floor(at / move_keys.HOUR_MS)
    local ms = at - hour * move_keys.HOUR_MS
    if at >= now - move_keys.KEPT_MS then
      local key = move_keys.key_of(prefix, movement[1], hour)
      local units = keys[key]
      if not units then
        units = {}
        keys[key], order[#order + 1] = units, {key, hour}
      end
      local minute, second = warehouse .. '\nm' .. math.floor(ms / 60000), warehouse .. '\ns' .. math.floor(ms / 1000)
      local at_ms = warehouse .. '\n' .. ms
      units[warehouse], units[minute] = (units[warehouse] or 0) + moved_units, (units[minute] or 0) + moved_units
      units[second], units[at_ms] = (units[second] or 0) + moved_units, (units[at_ms] or 0) + moved_units
    end
  end
  for _, entry in ipairs(order) do
    add_units(entry[1], keys[entry[1]], (entry[2] + 1) * move_keys.HOUR_MS + move_keys.KEPT_MS - now)
  end
end

return move_keys
