-- CPU time in ms, from any beginning. Redis 7.0 gives scripts no `os`: there it is the time of day, which stands still
-- during a script on the servers that have `os`.

local clock = rawget(_G, 'os')

local function ms()
  if clock then return clock.clock() * 1000 end
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end

return {ms = ms}
