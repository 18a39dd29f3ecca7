-- missing: which of these waiting jobs Redis holds nowhere.
--
-- KEYS[1] prefix
-- ARGV[1] ids
-- ARGV[2] msgpack array, two values an id: tenant, due_in_ms
-- returns the positions in the list, from 1, of those that are neither ready, aside, leased, nor due about when the ledger
--   says: one that was hurried in the ledger alone would else lie here until its old date
--
-- At most 100 ids a call. It changes nothing.

local ids, fields = pieces(ARGV[1]), cmsgpack.unpack(ARGV[2])
local now = clock()
local leased = call('ZMSCORE', LEASE, unpack(ids))
local due = call('ZMSCORE', DUE, unpack(ids))
local entries = call('HMGET', JOB, unpack(ids))
local nowhere = {}
for i, id in ipairs(ids) do
  local tenant, due_in_ms = fields[i * 2 - 1], fields[i * 2]
  local in_time = due[i] and due[i] - now <= due_in_ms + SOON_MS
  local is_aside = entries[i] and sub(entries[i], 1, 1) == 'a'
  if not leased[i] and not in_time and not is_aside and not call('ZSCORE', ready_key(tenant), id) then
    nowhere[#nowhere + 1] = i
  end
end
return nowhere
