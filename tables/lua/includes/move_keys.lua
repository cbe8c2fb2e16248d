-- The movements of on_hand that late counts need, beside the record that orders read (rule 41). One hash for each SKU and
-- hour of occurred_at, `moves:<sku>\n<hour>`. Its fields are the units that moved at a warehouse in the hour
-- (`<warehouse>`), in a minute of it (`<warehouse>\nm<minute>`), in a second (`<warehouse>\ns<second>`) and at a ms
-- (`<warehouse>\n<ms>`). A movement costs four fields, and a count reads a bounded number of them, at any rate.
local move_keys = {HOUR_MS = 3600000, COUNT_MS = 24 * 3600000}
-- A movement is kept an hour longer than a count may ask for: a count in steps ends within that time.
move_keys.KEPT_MS = move_keys.COUNT_MS + move_keys.HOUR_MS

function move_keys.key_of(prefix, sku, hour) return prefix .. 'moves:' .. sku .. '\n' .. string.format('%.0f', hour) end

-- moved: [[sku, warehouse, at, units], …]; `now` is the ledger's time, from which the keys' time to live counts.
function move_keys.put(prefix, moved, now)
  local keys, order = {}, {}
  for _, m in ipairs(moved) do
    local w, at, n = m[2], m[3], m[4]
    local hour = math.floor(at / move_keys.HOUR_MS)
    local key, ms = move_keys.key_of(prefix, m[1], hour), at - hour * move_keys.HOUR_MS
    if at >= now - move_keys.KEPT_MS then
      local fields = keys[key]
      if not fields then
        fields = {}
        keys[key], order[#order + 1] = fields, {key, hour}
      end
      local minute, second = math.floor(ms / 60000), math.floor(ms / 1000)
      for _, field in ipairs({w, w .. '\nm' .. minute, w .. '\ns' .. second, w .. '\n' .. ms}) do
        fields[field] = (fields[field] or 0) + n
      end
    end
  end
  for _, entry in ipairs(order) do
    for field, n in pairs(keys[entry[1]]) do redis.call('HINCRBY', entry[1], field, n) end
    local left = (entry[2] + 1) * move_keys.HOUR_MS + move_keys.KEPT_MS - now
    redis.call('PEXPIRE', entry[1], string.format('%.0f', left))
  end
end
