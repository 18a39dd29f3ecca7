-- push: make Redis agree with the ledger's word on these jobs, and wake a worker if there is work.
--
-- KEYS[1] prefix
-- ARGV[1] generation of the rebuild that copies a page, '' for anything else
-- ARGV[2] reserved places to give back
-- ARGV[3] ids, each at most once
-- ARGV[4] tokens of the running ones among them, in their order
-- ARGV[5] msgpack array, five values an id: kind, tenant, score, due_in_ms, lease_ms
--   kind: 's' waiting for its first attempt, 'r' waiting for another one, 'p' ready, but its claim was refused,
--   'a' ready, but only for a worker that knows its type, which then stands in place of lease_ms, 'l' running,
--   'g' gone; a gone id's tenant may be '', then it is only looked for where it is found without
-- returns 1; 0 when this rebuild is over because another one has begun
--
-- At most 100 ids a call. The ledger's word wins: a waiting id loses its lease. Only a page of a rebuild, which was
-- read a while ago, leaves alone what was heard of since the rebuild began and what is leased. Repeating a call changes
-- nothing but times (a delay counts from the call) and gives back places once more.

local generation = ARGV[1]
local is_page = generation ~= ''
local ids, tokens = pieces(ARGV[3]), pieces(ARGV[4])
local fields = #ids > 0 and cmsgpack.unpack(ARGV[5]) or {}

if is_page and call('SISMEMBER', SEEN, generation) == 0 then
  return 0
end

local now = clock()
local owners, waits, seen = {}, {}, {}
local is_any_aside = false

local function look()
  owners = call('HMGET', OWN, unpack(ids))
  waits = call('HMGET', JOB, unpack(ids))
  if is_page then
    seen = call('SMISMEMBER', SEEN, unpack(ids))
    call('PEXPIRE', SEEN, REBUILD_IDLE_MS)
  end
  if call('EXISTS', SEEN) == 1 then
    call('SADD', SEEN, unpack(ids))
  end
end

local function place_waiting(id, flag, tenant, score, due_in_ms, kind)
  if flag == 'a' then
    remove_ready(id, tenant)
    set_aside(id, tenant, score, kind)
    is_any_aside = true
  elseif due_in_ms > 0 then
    remove_ready(id, tenant)
    add_due(id, tenant, score, flag, now + due_in_ms)
  else
    add_ready(id, tenant, score)
  end
end

local function place_running(id, owner, token, tenant, lease_ms)
  remove_ready(id, tenant)
  if not owner then
    add_lease(id, tenant, token, now + lease_ms)
    return
  end
  if parse_own(owner) ~= token then
    call('HSET', OWN, id, token .. tenant)
  end
end

local function place(id, owner, waited, token, kind, tenant, score, due_in_ms, lease_ms)
  if waited then
    remove_due(id)
  end
  if owner and kind ~= 'l' then
    remove_lease(id, owner, kind == 'p' or kind == 'a')
  end
  if kind == 'l' then
    place_running(id, owner, token, tenant, lease_ms)
  elseif kind ~= 'g' then
    place_waiting(id, kind, tenant, score, due_in_ms, lease_ms)
  elseif tenant ~= '' then
    remove_ready(id, tenant)
  end
end

local function place_all()
  local running = 0
  for i, id in ipairs(ids) do
    local at = i * 5 - 4
    local is_running = fields[at] == 'l'
    running = running + (is_running and 1 or 0)
    if not is_page or (seen[i] == 0 and (is_running or not owners[i])) then
      place(id, owners[i], waits[i], tokens[running], unpack(fields, at, at + 4))
    end
  end
end

-- The places that expire first go first: they are all alike.
local function give_back(places)
  local seconds = call('HKEYS', RESV)
  table.sort(seconds)
  for _, second in ipairs(seconds) do
    if places <= 0 then
      return
    end
    local held = tonumber(call('HGET', RESV, second))
    if held <= places then
      call('HDEL', RESV, second)
    else
      call('HINCRBY', RESV, second, -places)
    end
    places = places - held
  end
end

local before = next_event_ms()
if #ids > 0 then
  look()
  place_all()
  enroll_touched()
end
if ARGV[2] ~= '0' then
  give_back(tonumber(ARGV[2]))
end

-- A new first date wakes a worker too, if it comes before the workers would look by themselves; and so does an id
-- that was set aside, for one that knows it.
local first = next_event_ms()
local sooner = first < before and first - now < SOON_MS
if has_work() or ((sooner or is_any_aside) and not rules.cold and not rules.paused) then
  wake()
end
return 1
