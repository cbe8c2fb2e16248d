-- tick {orders_max}: end what is due by the ledger's time. The step is atomic, so any worker may run it. The detail is
-- `patched` where `write_whole` has something to do.
local tick, write_whole
do

local DUE_BYTES_MAX = 65536 -- 64 KiB of orders per step: about one order of the largest size
local PATCHED_BYTES_MAX = 1048576 -- 1 MiB of whole rows per step: some 10 ms

function tick(cmd)
  local due = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'deadlines', '-inf', now, 'LIMIT', 0, cmd.orders_max)
  due = names_within('order:', due, DUE_BYTES_MAX)
  local ended = 0
  fetch_orders(due)
  for _, id in ipairs(due) do
    local o = get_order(id)
    if is_placed(o) and o.r.expires_at and now >= o.r.expires_at then
      expire_if_due(o)
      include_order(o)
      ended = ended + 1
    end
    if o and waiting.tick(o) then ended = ended + 1 end
  end
  local dwelling = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'dwells', '-inf', now, 'LIMIT', 0, cmd.orders_max)
  dwelling = names_within('sku:', dwelling, PATCHED_BYTES_MAX)
  fetch_skus(dwelling)
  for _, sku in ipairs(dwelling) do
    local s = get_sku(sku)
    if s then s.waits = true end
    if s and dwell_over(s) then
      touch(s, {'dwell', '', sku})
    elseif s then
      note_dwells(s)
    end
    ended = ended + 1
  end
  local detail = redis.call('EXISTS', KEYS[1] .. 'patched') == 1 and 'patched' or nil
  return {outcome = ended == 0 and O.NOTHING_DUE or O.EXPIRED, detail = detail}
end

-- write_whole {skus_max}: whole rows of SKUs whose newest change is in the journal as a patch (includes/payload.lua).
function write_whole(cmd)
  local patched = redis.call('ZRANGE', KEYS[1] .. 'patched', 0, cmd.skus_max - 1)
  if #patched == 0 then return {outcome = O.NOTHING_DUE} end
  patched = names_within('sku:', patched, PATCHED_BYTES_MAX)
  fetch_skus(patched)
  for _, sku in ipairs(patched) do
    if not restate_sku(sku) then writing.note_whole({sku = sku}) end -- a repair removed it
  end
  return {outcome = O.WRITTEN_WHOLE, detail = string.format('%d', #patched)}
end

end
