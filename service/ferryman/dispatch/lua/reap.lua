-- reap: name leases that have run out, and put them off, so that a reaper that dies leaves them to the next.
--
-- KEYS[1] prefix
-- ARGV[1] at most so many, up to 100
-- ARGV[2] milliseconds by which they are put off
-- returns id and token of each, end to end
--
-- Nothing is released here: that is for the push of what the ledger then says.

local now = clock()
local named = {}
for _, id in ipairs(call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local entry = call('HGET', OWN, id)
  if entry then
    call('ZADD', LEASE, now + ARGV[2], id)
    named[#named + 1] = id .. sub(entry, 1, 16)
  else
    call('ZREM', LEASE, id)
  end
end
return table.concat(named)
