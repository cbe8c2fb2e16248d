-- What a late count needs (rules 34, 35): per warehouse of a SKU the newest applied count, the movements of on_hand
-- since, and the time below which some were forgotten.
local HISTORY_MAX = 32 -- movements
local HISTORY_MS = 900000 -- 15 minutes before the newest movement kept

local function history_of(s, w)
  local h = s.r.history[w]
  if not h then
    h = {}
    s.r.history[w] = h
  end
  return h
end

local function raise_floor(h, at)
  if not h.floor or at > h.floor then h.floor = at end
end

local function remember(h, at, n)
  local moves = h.moves or {}
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
  local h = history_of(s, w)
  if h.counted_at and at <= h.counted_at then return false end
  change(s, 'on_hand', w, n)
  remember(h, at, n)
  return true
end

-- Units that moved after `at`, which a count as of `at` could not see.
local function moved_since(h, at)
  local carried = 0
  for i = 1, #(h.moves or {}), 2 do
    if h.moves[i] > at then carried = carried + h.moves[i + 1] end
  end
  return carried
end

local function forget_until(h, at)
  local kept = {}
  for i = 1, #(h.moves or {}), 2 do
    if h.moves[i] > at then kept[#kept + 1], kept[#kept + 2] = h.moves[i], h.moves[i + 1] end
  end
  h.moves = #kept > 0 and kept or nil
end
