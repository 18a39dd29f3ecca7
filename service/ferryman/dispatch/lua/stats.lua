-- stats: the counts of a queue, or of one tenant in it.
--
-- KEYS[1] prefix
-- ARGV[1] tenant, '' for all
-- returns {cold, pending, scheduled, retrying, running}; cold is 0 or 1
--
-- It promotes what is due, so that a paused queue counts right, too.

promote(clock())
enroll_touched()
if has_work() then
  wake()
end
local tenant = ARGV[1]
local counts = call('HMGET', COUNT, 'ready:' .. tenant, 'scheduled:' .. tenant, 'retrying:' .. tenant)
local running = tenant == '' and call('ZCARD', LEASE) or tonumber(call('HGET', INFL, tenant) or 0)
return { rules.cold and 1 or 0, tonumber(counts[1] or 0), tonumber(counts[2] or 0), tonumber(counts[3] or 0), running }
