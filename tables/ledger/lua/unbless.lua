-- The first step of a recovery (rule R3): until this term is blessed, nothing is decided or settled.
--
-- KEYS[1]  the shard's key prefix; reads head and settled, writes blessed
-- ARGV[1]  term of the recovery
-- returns  {'ok', run_id, replid, head batch, head token, settled offset, term, owner, batch, token}: the ids that
--          each later step requires, and Redis's position
-- returns  {'higher_term', term}: a newer recovery began

local server = require('server')

local prefix, term = KEYS[1], ARGV[1]
local stored = redis.call('HGET', prefix .. 'blessed', 'term')
if stored and tonumber(stored) > tonumber(term) then return { 'higher_term', tonumber(stored) } end

redis.call('HSET', prefix .. 'blessed', 'run_id', 'none', 'replid', 'none', 'term', term)
local run_id, replid = server.ids()
local head = redis.call('HMGET', prefix .. 'head', 'batch', 'token')
local settled = redis.call('HMGET', prefix .. 'settled', 'offset', 'term', 'owner', 'batch', 'token')
return { 'ok', run_id, replid, tonumber(head[1] or '0'), head[2] or '', tonumber(settled[1] or '0'),
  tonumber(settled[2] or '0'), settled[3] or '', tonumber(settled[4] or '0'), settled[5] or '' }
