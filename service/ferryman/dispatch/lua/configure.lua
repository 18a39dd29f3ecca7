-- configure: copy a queue's settings, unless they are older than those that are here.
--
-- KEYS[1] prefix
-- ARGV[1] version, ARGV[2] paused (0 or 1), ARGV[3] aging in milliseconds, ARGV[4] largest number of running jobs,
-- ARGV[5] the same for each tenant (0 = no limit), ARGV[6] weight
-- ARGV[7] cursor, 0 at first
-- returns the cursor to go on with, 0 at the end
--
-- Only a tenant that runs something can have been kept out of the ring by its limit: these are looked at, some 100 a
-- call. Repeating a call changes nothing.

if tonumber(call('HGET', META, 'version') or 0) > tonumber(ARGV[1]) then
  return 0
end
call('HSET', META, 'version', ARGV[1], 'paused', ARGV[2], 'aging', ARGV[3], 'max_concurrency', ARGV[4],
  'tenant_max', ARGV[5], 'weight', ARGV[6])
rules.paused = ARGV[2] == '1'
rules.aging, rules.max_concurrency = tonumber(ARGV[3]), tonumber(ARGV[4])
rules.tenant_max, rules.weight = tonumber(ARGV[5]), tonumber(ARGV[6])

local scan = call('HSCAN', INFL, ARGV[7], 'COUNT', 100)
for i = 1, #scan[2], 2 do
  touched[scan[2][i]] = true
end
enroll_touched()
if has_work() then
  wake()
end
return tonumber(scan[1])
