-- missing: which of these waiting jobs Redis does not hold as the ledger does.
--
-- KEYS[1] prefix
-- ARGV[1] ids
-- ARGV[2] msgpack array, two values an id: tenant, due_in_ms
-- returns the positions in the list, from 1, of those that are neither ready nor leased, nor due about when they
--   should; one that should be ready may as well be aside, or put off because its claim was refused
--
-- At most 100 ids a call. It changes nothing.

local TOLERATED_MS = 1000

local ids, fields = pieces(ARGV[1]), cmsgpack.unpack(ARGV[2])
local leased = call('ZMSCORE', LEASE, unpack(ids))
local due = call('ZMSCORE', DUE, unpack(ids))
local waits = call('HMGET', JOB, unpack(ids))
local now = clock()

local function is_held(i, id)
  if leased[i] then
    return true
  end
  local tenant, due_in_ms = fields[i * 2 - 1], max(0, fields[i * 2])
  if due_in_ms == 0 and waits[i] and WAITS[sub(waits[i], 1, 1)] == 'ready' then
    return true
  end
  if due[i] then
    -- What is due already will be promoted: it is as good as ready.
    return math.abs(max(tonumber(due[i]), now) - (now + due_in_ms)) <= TOLERATED_MS
  end
  return call('ZSCORE', ready_key(tenant), id)
end

local missed = {}
for i, id in ipairs(ids) do
  if not is_held(i, id) then
    missed[#missed + 1] = i
  end
end
return missed
