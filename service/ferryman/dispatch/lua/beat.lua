-- beat: extend leases, and make those again that Redis has lost.
--
-- KEYS[1] prefix
-- ARGV[1] ids, ARGV[2] their tokens
-- ARGV[3] msgpack array, two values an id: tenant, visibility timeout in milliseconds
-- returns the ids among them that are asked to stop, end to end
--
-- At most 100 ids a call. A lease that is held under another token is left alone, and so is an id that waits here:
-- the ledger put it there, and its word is worth more than that of a worker that may have lost it.

local ids, tokens = pieces(ARGV[1]), pieces(ARGV[2])
local fields = cmsgpack.unpack(ARGV[3])
local now = clock()

local entries = call('HMGET', OWN, unpack(ids))
for i, id in ipairs(ids) do
  local tenant, ends_ms = fields[i * 2 - 1], now + fields[i * 2]
  if entries[i] then
    if sub(entries[i], 1, 16) == tokens[i] then
      call('ZADD', LEASE, ends_ms, id)
    end
  elseif call('HEXISTS', JOB, id) == 0 and not call('ZSCORE', ready_key(tenant), id) then
    add_lease(id, tenant, tokens[i], ends_ms)
  end
end
enroll_touched()

local asked = {}
for i, flag in ipairs(call('SMISMEMBER', CANCEL, unpack(ids))) do
  if flag == 1 then
    asked[#asked + 1] = ids[i]
  end
end
return table.concat(asked)
