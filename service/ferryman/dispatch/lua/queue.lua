-- Put in front of every script: the keys of one queue and what several scripts do with them.
--
-- KEYS[1] is the queue's prefix `fm:{<queue>}`; all further keys are derived from it under the same hash tag.
-- Job ids and claim tokens are 16 raw bytes; many of them come as one string, end to end.
--
--   :t:<tenant>  zset   ready ids by score
--   :ring        zset   tenants with ready ids that may run, by key: the smallest is served next, see `ring_key`
--   :vt          zset   tenants by virtual time: worker-milliseconds of ended runs / weight; all of the ring are in it
--   :lim         zset   tenants with ready ids that spent their rate, by the Redis time at which they may go on
--   :rl          zset   tenants by the Redis time at which their whole burst is theirs again, none in the past
--   :tenants     hash   tenant -> msgpack {largest number of running jobs, starts a second, burst, weight}, where
--                       the queue has a word on that tenant alone
--   :due         zset   ids that wait for their time, by Redis time in milliseconds
--   :aside       zset   type, "|", id of those that wait for a worker that knows their type; all scores are 0
--   :job         hash   id of :due or :aside -> flag, score, "|", tenant. Flags: s scheduled; r retrying; p ready, but
--                       its claim was refused; a ready, but aside, then with type and "|" before the tenant
--   :lease       zset   running ids by the end of their lease, Redis time in milliseconds
--   :own         hash   id of :lease -> token, tenant
--   :infl        hash   tenant -> running ids, none at 0
--   :count       hash   "ready:", "scheduled:", "retrying:" + tenant -> waiting ids, none at 0; totals under "";
--                       with p and a, who are due for themselves, counted as ready
--   :wake        zset   at most one member: there is work
--   :resv        hash   second of expiry -> reserved places
--   :cancel      set    running ids that are asked to stop
--   :meta        hash   epoch (missing = cold), version, paused, aging, max_concurrency, run_ms; for each tenant
--                       tenant_max, rate, burst, weight; named: how many :tenants has
--   :seen        set    while a rebuild runs: its generation, and the ids that were heard of since it began
--
-- An id is in one place only: ready, due, aside or leased. Every script keeps that, and the counts, by itself.

local prefix = KEYS[1]
local RING, VT, DUE, JOB = prefix .. ':ring', prefix .. ':vt', prefix .. ':due', prefix .. ':job'
local LEASE, OWN, INFL = prefix .. ':lease', prefix .. ':own', prefix .. ':infl'
local COUNT, WAKE, RESV = prefix .. ':count', prefix .. ':wake', prefix .. ':resv'
local CANCEL, META, SEEN = prefix .. ':cancel', prefix .. ':meta', prefix .. ':seen'
local ASIDE = prefix .. ':aside'
local LIM, RL, TENANTS = prefix .. ':lim', prefix .. ':rl', prefix .. ':tenants'

local call = redis.call
local floor, max, min = math.floor, math.max, math.min
local sub = string.sub

local PROMOTED_AT_ONCE = 200
local FORGOTTEN_AT_ONCE = 100
local SOON_MS = 1000
local DAY_MS = 86400000
local REBUILD_IDLE_MS = 60000 -- a rebuild that does nothing for so long is over
local TICK_MS = 0.001 -- as fine as the clock, and coarser than what a double loses

local function ready_key(tenant)
  return prefix .. ':t:' .. tenant
end

-- Redis time in whole milliseconds, and to the microsecond; the same all through a script.
local now_ms, exact_ms
local function clock()
  if not now_ms then
    local time = call('TIME')
    now_ms, exact_ms = time[1] * 1000 + floor(time[2] / 1000), time[1] * 1000 + time[2] / 1000
  end
  return now_ms, exact_ms
end

-- Whole milliseconds from now until then, rounded up.
local function in_ms(then_ms)
  local _, exact = clock()
  return min(DAY_MS, max(0, math.ceil(then_ms - exact - TICK_MS)))
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
  local meta = call('HMGET', META, 'epoch', 'paused', 'aging', 'max_concurrency', 'run_ms', 'named', 'tenant_max',
    'rate', 'burst', 'weight')
  rules = {
    cold = not meta[1],
    paused = meta[2] == '1',
    aging = tonumber(meta[3] or 60000),
    max_concurrency = tonumber(meta[4] or 0),
    run_ms = tonumber(meta[5] or 1), -- of a typical run
    named = tonumber(meta[6] or 0),
    each = {
      most = tonumber(meta[7] or 0),
      rate = tonumber(meta[8] or 0),
      burst = max(1, tonumber(meta[9] or 0)),
      weight = tonumber(meta[10] or 1),
    },
  }
end

-- What the queue allows one tenant.
local allowed = {}
local function allowed_to(tenant)
  local own = allowed[tenant]
  if not own then
    local entry = rules.named > 0 and call('HGET', TENANTS, tenant)
    if entry then
      local given = cmsgpack.unpack(entry)
      own = { most = given[1], rate = given[2], burst = max(1, given[3]), weight = given[4] }
    else
      own = rules.each
    end
    allowed[tenant] = own
  end
  return own
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

-- How many more ids of the tenant may run by its cap, of which so many do.
local function room_beside(tenant, running)
  local most = allowed_to(tenant).most
  return most == 0 and math.huge or most - running
end

-- How many ids of the tenant may start by its rate, and when the next may: GCRA. Starts in any span of time are at
-- most rate * span + burst. Where the clock ran back, or the limits were changed, no more is owed than a whole burst.
local function starts_of(tenant)
  local own = allowed_to(tenant)
  if own.rate == 0 then
    return math.huge, 0
  end
  local _, exact = clock()
  local gap = 1000 / own.rate
  local whole_at = tonumber(call('ZSCORE', RL, tenant) or 0)
  if whole_at > exact + own.burst * gap + TICK_MS then
    whole_at = exact + own.burst * gap
    call('ZADD', RL, whole_at, tenant)
  end
  local owed = max(0, whole_at - exact - TICK_MS)
  return floor(own.burst - owed / gap), exact + owed - (own.burst - 1) * gap
end

local function count_starts(tenant, n)
  local own = allowed_to(tenant)
  if own.rate == 0 then
    return
  end
  local _, exact = clock()
  local gap = 1000 / own.rate
  local whole_at = max(exact, tonumber(call('ZSCORE', RL, tenant) or 0))
  call('ZADD', RL, whole_at + n * gap, tenant)
  local past = call('ZRANGE', RL, '-inf', exact, 'BYSCORE', 'LIMIT', 0, FORGOTTEN_AT_ONCE)
  if past[1] then
    call('ZREM', RL, unpack(past))
  end
end

-- A start that was counted did not come to pass.
local function give_back_start(tenant)
  local rate = allowed_to(tenant).rate
  if rate > 0 and call('ZSCORE', RL, tenant) then
    call('ZINCRBY', RL, -1000 / rate, tenant)
  end
end

-- What a run of the tenant counts that has not ended: the time of a typical one.
local function typical_charge(tenant)
  return max(1, rules.run_ms) / allowed_to(tenant).weight
end

-- Runs that go on count as typical ones until they end and their time is known. So a key never falls below the
-- virtual time, and a newcomer, who starts at the smallest of these, is served within one round. The priority in the
-- fraction of the head's score (core.priority.priority_of) is worth a credit of worker time.
local function ring_key(tenant, time, running, score)
  local priority = floor((score - floor(score)) * 128)
  return time + running * typical_charge(tenant) - priority * rules.aging
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

-- Count worker time that a tenant has used, already divided by its weight.
local function charge(tenant, time)
  call('ZADD', VT, max(virtual_time(tenant), least()) + time, tenant)
end

-- Take a tenant out of the ring; if it spent its rate, until the time at which it may go on.
local function stand_aside(tenant, until_ms)
  call('ZREM', RING, tenant)
  if until_ms then
    call('ZADD', LIM, until_ms, tenant)
  end
end

-- Put a tenant into the ring where it belongs, or take it out.
local function enroll(tenant)
  local head = call('ZRANGE', ready_key(tenant), 0, 0, 'WITHSCORES')
  local running = running_of(tenant)
  if not head[1] or room_beside(tenant, running) <= 0 then
    stand_aside(tenant)
    return
  end
  local starts, next_ms = starts_of(tenant)
  if starts <= 0 then
    stand_aside(tenant, next_ms)
    return
  end
  local time = virtual_time(tenant)
  if not call('ZSCORE', RING, tenant) then
    time = max(time, least())
    call('ZADD', VT, time, tenant)
  end
  call('ZADD', RING, ring_key(tenant, time, running, tonumber(head[2])), tenant)
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

local WAITS = { s = 'scheduled', r = 'retrying', p = 'ready', a = 'ready' }

-- flag, score (a string), tenant of an entry in :job; of one that is aside its type, too.
local function parse_due(entry)
  local flag, bar = sub(entry, 1, 1), string.find(entry, '|', 2, true)
  local score, tenant, kind = sub(entry, 2, bar - 1), sub(entry, bar + 1), nil
  if flag == 'a' then
    bar = string.find(tenant, '|', 1, true)
    kind, tenant = sub(tenant, 1, bar - 1), sub(tenant, bar + 1)
  end
  return flag, score, tenant, kind
end

local function add_due(id, tenant, score, flag, at_ms)
  call('ZADD', DUE, at_ms, id)
  call('HSET', JOB, id, flag .. string.format('%.17g', score) .. '|' .. tenant)
  count(WAITS[flag], tenant, 1)
end

local function set_aside(id, tenant, score, kind)
  call('ZADD', ASIDE, 0, kind .. '|' .. id)
  call('HSET', JOB, id, string.format('a%.17g', score) .. '|' .. kind .. '|' .. tenant)
  count('ready', tenant, 1)
end

-- An id that is due or aside goes from there.
local function remove_due(id)
  local entry = call('HGET', JOB, id)
  call('ZREM', DUE, id)
  if entry then
    call('HDEL', JOB, id)
    local flag, _, tenant, kind = parse_due(entry)
    if kind then
      call('ZREM', ASIDE, kind .. '|' .. id)
    end
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

-- End the lease of an id without a word on how long it ran; `owner` is its entry in :own. It counts as a typical run;
-- but a claim that was refused started nothing: it counts nothing, and the tenant gets its start back.
local function remove_lease(id, owner, was_refused)
  local _, tenant = parse_own(owner)
  call('ZREM', LEASE, id)
  call('HDEL', OWN, id)
  call('SREM', CANCEL, id)
  count_running(tenant, -1)
  if was_refused then
    give_back_start(tenant)
  else
    charge(tenant, typical_charge(tenant))
  end
  touched[tenant] = true
end

local function make_ready(ids)
  for _, id in ipairs(ids) do
    local entry = call('HGET', JOB, id)
    remove_due(id)
    if entry then
      local _, score, tenant = parse_due(entry)
      add_ready(id, tenant, score)
    end
  end
end

-- Ids whose time has come become ready, a bounded number of them.
local function promote(now)
  make_ready(call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, PROMOTED_AT_ONCE))
end

-- Tenants whose rate lets them go on, a bounded number of them.
local function promote_limited()
  local _, exact = clock()
  local tenants = call('ZRANGE', LIM, '-inf', exact, 'BYSCORE', 'LIMIT', 0, PROMOTED_AT_ONCE)
  for _, tenant in ipairs(tenants) do
    call('ZREM', LIM, tenant)
    touched[tenant] = true
  end
end

-- When the next id falls due, or the next tenant may go on; Redis time, huge when never.
local function next_event_ms()
  local due = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
  local limited = call('ZRANGE', LIM, 0, 0, 'WITHSCORES')
  return min(tonumber(due[2] or math.huge), tonumber(limited[2] or math.huge))
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
