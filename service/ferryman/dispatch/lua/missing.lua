-- missing: which of these waiting jobs Redis does not hold as the ledger does.
--
-- KEYS[1] prefix
-- ARGV[1] ids
-- ARGV[2] msgpack array, two values an id: tenant, due_in_ms
-- returns the positions in the list, from 1, of those that are neither ready nor leased, nor due about when they should
--
-- At most 100 ids a call. It changes nothing.

local TOLERATED_MS = 1000

local ids, fields = pieces(ARGV[1]), cmsgpack.unpack(ARGV[2])
local leased = call('ZMSCORE', LEASE, unpack(ids))
local due = call('ZMSCORE', DUE, unpack(ids))
local now = clock()

local function is_held(i, id)
  if leased[i] then
    return true
  end
  if due[i] then
    -- What is due already will be promoted: it is as good as ready.
    return math.abs(max(tonumber(due[i]), now) - (now + max(0, fields[i * 2]))) <= TOLERATED_MS
  end
  return call('ZSCORE', ready_key(fields[i * 2 - 1]), id)
end

local missed = {}
for i, id in ipairs(ids) do
  if not is_held(i, id) then
    missed[#missed + 1] = i
  end
end
return missed
