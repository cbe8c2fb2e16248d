-- What the commands of a batch share; apply.lua sets the first three.
return {
  now = nil, -- the ledger's time, ms
  number = nil,
  limits = nil, -- tables/ledger/client.py, LedgerLimits
  order_id = nil, -- of the command that runs
  fills_wait = false, -- while the units of a superseded order are for the order that replaces it (supersede.lua)
  has_promises = false, -- whether promised dates may have changed (promises.lua)
  moves = {}, -- movements of on_hand, [[sku, warehouse, at, units], …] (history.lua)
  repairs = {}, -- {command, made} of each repair (repair.lua)
  actions = {}, -- what operators did to orders (actions.lua)
  writers = {}, -- functions that write what a module keeps outside the common records, after those
}
