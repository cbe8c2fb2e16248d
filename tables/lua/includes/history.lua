-- What a late count needs (rules 34, 35): per warehouse of a SKU the newest applied count, the movements of on_hand
-- since, and the time below which some were forgotten. Kept as text (tables/records.py, SkuRecord): orders, which are
-- many, carry it along unread.
local HISTORY_MAX = 32 -- movements
local HISTORY_MS = 900000 -- 15 minutes before the newest movement kept

local function number_or_nil(word) return word ~= '-' and tonumber(word) or nil end

local function parse_history(text)
  local history = {}
  for line in string.gmatch(text, '[^\n]+') do
    local w, counted_at, floor, moves = string.match(line, '^(%S+) (%S+) (%S+)(.*)$')
    local h = {counted_at = number_or_nil(counted_at), floor = number_or_nil(floor), moves = {}}
    for word in string.gmatch(moves, '%S+') do h.moves[#h.moves + 1] = tonumber(word) end
    history[w] = h
  end
  return history
end

local function history_text(s)
  local lines = {}
  for _, w in ipairs(s.r.warehouses) do
    local h = s.history[w]
    if h then
      local words = {w, h.counted_at and format_ms(h.counted_at) or '-', h.floor and format_ms(h.floor) or '-'}
      for i = 1, #h.moves, 2 do
        words[#words + 1] = format_ms(h.moves[i])
        words[#words + 1] = h.moves[i + 1]
      end
      lines[#lines + 1] = table.concat(words, ' ')
    end
  end
  return table.concat(lines, '\n')
end

local function history_of(s, w)
  s.history = s.history or parse_history(s.r.history or '')
  return s.history[w]
end

local function begin_history(s, w)
  local h = history_of(s, w) or {moves = {}}
  s.history[w], s.history_changed = h, true
  return h
end

local function raise_floor(h, at)
  if not h.floor or at > h.floor then h.floor = at end
end

local function remember(h, at, n)
  local moves = h.moves
  local i = #moves - 1
  while i > 0 and moves[i] > at do i = i - 2 end
  table.insert(moves, i + 2, at)
  table.insert(moves, i + 3, n)
  local newest, kept = moves[#moves - 1], {}
  for i = 1, #moves, 2 do
    if moves[i] < newest - HISTORY_MS or (#moves - i) / 2 > HISTORY_MAX then
      raise_floor(h, moves[i])
    else
      kept[#kept + 1], kept[#kept + 2] = moves[i], moves[i + 1]
    end
  end
  raise_floor(h, newest - HISTORY_MS)
  h.moves = kept
end

-- on_hand at `w` moves by `n` as of `at`. -> false where a count as of that time or later holds it already.
local function move_on_hand(s, w, n, at)
  local h = begin_history(s, w)
  if h.counted_at and at <= h.counted_at then return false end
  change(s, 'on_hand', w, n)
  remember(h, at, n)
  return true
end

-- Units that moved after `at`, which a count as of `at` could not see.
local function moved_since(h, at)
  local carried = 0
  for i = 1, #h.moves, 2 do
    if h.moves[i] > at then carried = carried + h.moves[i + 1] end
  end
  return carried
end

local function forget_until(h, at)
  local kept = {}
  for i = 1, #h.moves, 2 do
    if h.moves[i] > at then kept[#kept + 1], kept[#kept + 2] = h.moves[i], h.moves[i + 1] end
  end
  h.moves = kept
end
