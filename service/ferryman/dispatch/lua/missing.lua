-- missing: which of these waiting jobs Redis holds nowhere.
--
-- KEYS[1] prefix
-- ARGV[1] ids
-- ARGV[2] msgpack array of their tenants
-- returns the positions in the list, from 1, of those that are neither ready, due nor leased
--
-- At most 100 ids a call. It changes nothing.

local ids, tenants = pieces(ARGV[1]), cmsgpack.unpack(ARGV[2])
local leased = call('ZMSCORE', LEASE, unpack(ids))
local due = call('ZMSCORE', DUE, unpack(ids))
local nowhere = {}
for i, id in ipairs(ids) do
  if not leased[i] and not due[i] and not call('ZSCORE', ready_key(tenants[i]), id) then
    nowhere[#nowhere + 1] = i
  end
end
return nowhere
