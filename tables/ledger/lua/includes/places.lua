-- The warehouses of a SKU in their stored order: `names`, `count`, `at` (name -> index of its first number,
-- sku_numbers.lua), `joined` (the names, joined by '\n'), `packed` (msgpack of that), `next` (name -> the list with it
-- at its end). SKUs share these lists.
local no_places = {names = {}, at = {}, count = 0, joined = '', packed = MSGPACK.STRING_0, next = {}}
local known = {[''] = no_places}

local function get(joined)
  local places = known[joined]
  if not places then
    places = {names = {}, at = {}, count = 0, joined = joined, packed = cmsgpack.pack(joined), next = {}}
    for name in string.gmatch(joined, '[^\n]+') do
      places.at[name] = WAREHOUSE.first + WAREHOUSE.size * places.count
      places.count = places.count + 1
      places.names[places.count] = name
    end
    known[joined] = places
  end
  return places
end

-- `places` and one more.
local function with(places, name)
  local longer = places.next[name]
  if not longer then
    longer = get(places.joined == '' and name or places.joined .. '\n' .. name)
    places.next[name] = longer
  end
  return longer
end

return {get = get, with = with}
