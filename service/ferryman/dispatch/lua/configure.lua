-- configure: copy a queue's settings, unless they are older than those that are here.
--
-- KEYS[1] prefix
-- ARGV[1] version, ARGV[2] paused (0 or 1), ARGV[3] aging in milliseconds, ARGV[4] largest number of running jobs
-- ARGV[5] for each tenant: msgpack {largest number of running jobs, starts a second, burst, weight}; 0 = no limit
-- ARGV[6] msgpack array, five values a tenant that the queue has a word on: tenant, and the same four; 1,000 at most
-- ARGV[7] cursor, 0 at first
-- returns the cursor to go on with, 0 at the end
--
-- Only a tenant that runs something can have been kept out of the ring by its cap: these are looked at, some 100 a
-- call. Who waits for its rate is looked at by the next step. Repeating a call changes nothing.

if tonumber(call('HGET', META, 'version') or 0) > tonumber(ARGV[1]) then
  return 0
end
local each, named = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6])

local function copy()
  call('HSET', META, 'version', ARGV[1], 'paused', ARGV[2], 'aging', ARGV[3], 'max_concurrency', ARGV[4],
    'named', #named / 5, 'tenant_max', each[1], 'rate', each[2], 'burst', each[3], 'weight', each[4])
  call('DEL', TENANTS)
  local entries = {}
  for at = 1, #named, 5 do
    entries[#entries + 1] = named[at]
    entries[#entries + 1] = cmsgpack.pack({ unpack(named, at + 1, at + 4) })
  end
  if #entries > 0 then
    call('HSET', TENANTS, unpack(entries))
  end
  if call('EXISTS', LIM) == 1 then
    call('ZUNIONSTORE', LIM, 1, LIM, 'WEIGHTS', 0)
  end
end

if ARGV[7] == '0' then
  copy()
end
rules.paused = ARGV[2] == '1'
rules.aging, rules.max_concurrency, rules.named = tonumber(ARGV[3]), tonumber(ARGV[4]), #named / 5
rules.each = { most = each[1], rate = each[2], burst = max(1, each[3]), weight = each[4] }

local scan = call('HSCAN', INFL, ARGV[7], 'COUNT', 100)
for i = 1, #scan[2], 2 do
  touched[scan[2][i]] = true
end
enroll_touched()
if has_work() or (call('EXISTS', LIM) == 1 and not rules.cold and not rules.paused) then
  wake()
end
return tonumber(scan[1])
