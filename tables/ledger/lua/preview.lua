-- What a policy would do to the offers of some SKUs: decided as `apply` decides it, in memory. Called read-only, so the
-- server itself refuses any write.
--
-- KEYS[1]  the shard's key prefix
-- ARGV[1]  msgpack map: channel, sku or nil, policy or nil (none would be set)
-- ARGV[2]  the SKU after which to begin, or ''; for a level of a channel
-- ARGV[3]  the number of SKUs to look at
-- ARGV[4]  the caller's time, ms
-- ARGV[5]  msgpack map (tables/ledger/client.py, LedgerLimits)
-- returns  {batch, token, settled batch, msgpack [refusal or '', [[sku, channel, before, after], …], last, effective]};
--          last: the last SKU looked at, or '' if none follows; effective: the policy that would be in force;
--          before and after: [mode, quantity, preorder_remaining]
-- error    UNBLESSED: no takeover blessed this server

local batch = require('batch')
local policies = require('policies')
local prefetch = require('prefetch')
local registry = require('registry')
local server = require('server')
local pack = cmsgpack.pack

local BYTES_MAX = 1048576 -- 1 MiB of records per call, as a step of a sweep: some 10 ms

local function names_of(command, from, limit)
  if command.sku then return {command.sku}, false end
  local page = redis.call('ZRANGEBYLEX', KEYS[1] .. 'skus', from == '' and '-' or '(' .. from, '+', 'LIMIT', 0, limit)
  local names = prefetch.names_within('sku:', page, BYTES_MAX)
  return names, #page == limit or #names < #page
end

local function preview()
  local command = cmsgpack.unpack(ARGV[1])
  registry.load()
  local refusal = policies.refusal_of(command)
  if refusal then return pack({refusal, {}, '', registry.merged()}) end
  local names, follow = names_of(command, ARGV[2], tonumber(ARGV[3]))
  prefetch.skus_named(names)
  local rows, is_cut, effective = policies.preview(command, names)
  local last = is_cut and rows[#rows][1] or follow and names[#names] or ''
  return pack({'', rows, last, effective})
end

if not server.is_blessed(KEYS[1]) then return redis.error_reply('UNBLESSED no takeover blessed this server') end
local head = redis.call('HMGET', KEYS[1] .. 'head', 'batch', 'token', 'now')
local settled = redis.call('HGET', KEYS[1] .. 'settled', 'batch')
local time = redis.call('TIME')
batch.number, batch.limits = tonumber(head[1] or 0) + 1, cmsgpack.unpack(ARGV[5])
batch.now = math.max(tonumber(head[3] or 0), math.min(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[4])))
return {head[1] or '0', head[2] or '', settled or '0', preview()}
