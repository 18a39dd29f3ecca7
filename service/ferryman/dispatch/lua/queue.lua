-- Put in front of every script: the keys of one queue and what several scripts do with them.
--
-- KEYS[1] is the queue's prefix `fm:{<queue>}`; all further keys are derived from it under the same hash tag.
-- Job ids and claim tokens are 16 raw bytes; many of them come as one string, end to end.
--
--   :t:<tenant>  zset   ready ids by score
--   :ring        zset   tenants with ready ids that may run, by key: the smallest is served next, see `ring_key`
--   :vt          zset   tenants by virtual time: worker-milliseconds of ended runs / weight; all of the ring are in it
--   :due         zset   ids that wait for their time, by Redis time in milliseconds
--   :job         hash   id of :due -> flag (s scheduled, r retrying), score, "|", tenant
--   :lease       zset   running ids by the end of their lease, Redis time in milliseconds
--   :own         hash   id of :lease -> token, tenant
--   :infl        hash   tenant -> running ids, none at 0
--   :count       hash   "ready:", "scheduled:", "retrying:" + tenant -> waiting ids, none at 0; totals under ""
--   :wake        zset   at most one member: there is work
--   :resv        hash   second of expiry -> reserved places
--   :cancel      set    running ids that are asked to stop
--   :meta        hash   epoch (missing = cold), version, paused, aging, max_concurrency, tenant_max, weight, run_ms
--   :seen        set    while a rebuild runs: its generation, and the ids that were heard of since it began
--
-- An id is in one place only: ready, due or leased. Every script keeps that, and the counts, by itself.

local prefix = KEYS[1]
local RING, VT, DUE, JOB = prefix .. ':ring', prefix .. ':vt', prefix .. ':due', prefix .. ':job'
local LEASE, OWN, INFL = prefix .. ':lease', prefix .. ':own', prefix .. ':infl'
local COUNT, WAKE, RESV = prefix .. ':count', prefix .. ':wake', prefix .. ':resv'
local CANCEL, META, SEEN = prefix .. ':cancel', prefix .. ':meta', prefix .. ':seen'

local call = redis.call
local floor, max, min = math.floor, math.max, math.min
local sub = string.sub

local PROMOTED_AT_ONCE = 200
local FORGOTTEN_AT_ONCE = 100
local SOON_MS = 1000
local REBUILD_IDLE_MS = 60000 -- a rebuild that does nothing for so long is over

local function ready_key(tenant)
  return prefix .. ':t:' .. tenant
end

local function clock()
  local time = call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)
end

-- The 16-byte pieces of a string.
local function pieces(joined)
  local list = {}
  for at = 1, #joined, 16 do
    list[#list + 1] = sub(joined, at, at + 15)
  end
  return list
end

local rules
do
  local meta = call('HMGET', META, 'epoch', 'paused', 'aging', 'max_concurrency', 'tenant_max', 'weight', 'run_ms')
  rules = {
    cold = not meta[1],
    paused = meta[2] == '1',
    aging = tonumber(meta[3] or 60000),
    max_concurrency = tonumber(meta[4] or 0),
    tenant_max = tonumber(meta[5] or 0),
    weight = tonumber(meta[6] or 1),
    run_ms = tonumber(meta[7] or 1), -- of a typical run
  }
end

local function count(field, tenant, by)
  call('HINCRBY', COUNT, field .. ':', by)
  if call('HINCRBY', COUNT, field .. ':' .. tenant, by) <= 0 then
    call('HDEL', COUNT, field .. ':' .. tenant)
  end
end

local function count_running(tenant, by)
  if call('HINCRBY', INFL, tenant, by) <= 0 then
    call('HDEL', INFL, tenant)
  end
end

local function running_of(tenant)
  return tonumber(call('HGET', INFL, tenant) or 0)
end

-- How many more ids of a tenant may run, of which so many do.
local function room_beside(running)
  return rules.tenant_max == 0 and math.huge or rules.tenant_max - running
end

-- What a run counts that has not ended: the time of a typical one.
local function typical_charge()
  return max(1, rules.run_ms) / rules.weight
end

-- Runs that go on count as typical ones until they end and their time is known. So a key never falls below the
-- virtual time, and a newcomer, who starts at the smallest of these, is served within one round. The priority in the
-- fraction of the head's score (core.priority.priority_of) is worth a credit of worker time.
local function ring_key(time, running, score)
  local priority = floor((score - floor(score)) * 128)
  return time + running * typical_charge() - priority * rules.aging
end

-- The smallest virtual time in the ring: where a tenant starts that was not waiting. Who lies below it and is not
-- in the ring would start there too, and is forgotten.
local least_time

local function least()
  if least_time then
    return least_time -- it only rises while a script runs, so the first answer is a good bound
  end
  least_time = 0
  for _ = 1, FORGOTTEN_AT_ONCE do
    local first = call('ZRANGE', VT, 0, 0, 'WITHSCORES')
    if not first[1] then
      least_time = 0
      break
    end
    least_time = tonumber(first[2])
    if call('ZSCORE', RING, first[1]) then
      break
    end
    call('ZREM', VT, first[1])
  end
  return least_time
end

local function virtual_time(tenant)
  return tonumber(call('ZSCORE', VT, tenant) or 0)
end

-- Count worker time that a tenant has used.
local function charge(tenant, time)
  call('ZADD', VT, max(virtual_time(tenant), least()) + time, tenant)
end

-- Put a tenant into the ring where it belongs, or take it out.
local function enroll(tenant)
  local head = call('ZRANGE', ready_key(tenant), 0, 0, 'WITHSCORES')
  local running = running_of(tenant)
  if not head[1] or room_beside(running) <= 0 then
    call('ZREM', RING, tenant)
    return
  end
  local time = virtual_time(tenant)
  if not call('ZSCORE', RING, tenant) then
    time = max(time, least())
    call('ZADD', VT, time, tenant)
  end
  call('ZADD', RING, ring_key(time, running, tonumber(head[2])), tenant)
end

-- Tenants whose place in the ring may have changed; `enroll_touched` once at the end of a script.
local touched = {}

local function enroll_touched()
  for tenant in pairs(touched) do
    enroll(tenant)
  end
  touched = {}
end

local function add_ready(id, tenant, score)
  if call('ZADD', ready_key(tenant), score, id) == 1 then
    count('ready', tenant, 1)
  end
  touched[tenant] = true
end

local function remove_ready(id, tenant)
  if call('ZREM', ready_key(tenant), id) == 1 then
    count('ready', tenant, -1)
    touched[tenant] = true
    return true
  end
  return false
end

local WAITS = { s = 'scheduled', r = 'retrying' }

-- flag, score (a string), tenant of an entry in :job.
local function parse_due(entry)
  local bar = string.find(entry, '|', 2, true)
  return sub(entry, 1, 1), sub(entry, 2, bar - 1), sub(entry, bar + 1)
end

local function add_due(id, tenant, score, flag, at_ms)
  call('ZADD', DUE, at_ms, id)
  call('HSET', JOB, id, flag .. string.format('%.17g', score) .. '|' .. tenant)
  count(WAITS[flag], tenant, 1)
end

local function remove_due(id)
  local entry = call('HGET', JOB, id)
  call('ZREM', DUE, id)
  if entry then
    call('HDEL', JOB, id)
    local flag, _, tenant = parse_due(entry)
    count(WAITS[flag], tenant, -1)
  end
end

-- token, tenant of an entry in :own.
local function parse_own(entry)
  return sub(entry, 1, 16), sub(entry, 17)
end

local function add_lease(id, tenant, token, ends_ms)
  call('ZADD', LEASE, ends_ms, id)
  call('HSET', OWN, id, token .. tenant)
  count_running(tenant, 1)
  touched[tenant] = true
end

-- A lease that ends without a word on how long the run took counts as a typical one.
local function remove_lease(id)
  local entry = call('HGET', OWN, id)
  call('ZREM', LEASE, id)
  if entry then
    call('HDEL', OWN, id)
    call('SREM', CANCEL, id)
    local _, tenant = parse_own(entry)
    count_running(tenant, -1)
    charge(tenant, typical_charge())
    touched[tenant] = true
  end
end

-- Ids whose time has come become ready, a bounded number of them.
local function promote(now)
  local ids = call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, PROMOTED_AT_ONCE)
  for _, id in ipairs(ids) do
    local entry = call('HGET', JOB, id)
    remove_due(id)
    if entry then
      local _, score, tenant = parse_due(entry)
      add_ready(id, tenant, score)
    end
  end
end

-- Whether a claim would find something now.
local function has_work()
  return not rules.cold
    and not rules.paused
    and call('ZCARD', RING) > 0
    and (rules.max_concurrency == 0 or call('ZCARD', LEASE) < rules.max_concurrency)
end

local function wake()
  call('ZADD', WAKE, 0, 'w')
end
