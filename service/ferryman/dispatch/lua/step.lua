-- step: one cycle of a worker: release what ended, promote what is due and who may go on, claim.
--
-- KEYS[1] prefix
-- ARGV[1] lease in milliseconds
-- ARGV[2] ids that ended, ARGV[3] their tokens, ARGV[4] msgpack array of their run times in milliseconds
-- ARGV[5] tokens, one for each id that is wanted, ARGV[6] msgpack array of the types that the worker knows
-- returns {more, due_in_ms, paused, cold, ids}: more, paused and cold are 0 or 1; due_in_ms is -1 when no id
--   falls due later and no tenant waits for its rate; ids are those claimed, end to end, in the order of the tokens
--
-- At most 100 ids and 100 tokens a call. A claim that ended is released only under its own token, so a repeated call
-- releases nothing twice. A repeated call claims anew: what an unheard answer claimed comes back by its lease's end.

local LATEST_SHARE = 0.05 -- of one run in the typical run time

local function release(ids, tokens, runs)
  local entries = call('HMGET', OWN, unpack(ids))
  local done, known, freed, owed = {}, {}, {}, {}
  for i, id in ipairs(ids) do
    local token, charged, tenant
    if entries[i] and not known[id] then
      token, charged, tenant = parse_own(entries[i])
    end
    if token == tokens[i] then
      known[id] = true
      done[#done + 1] = id
      freed[tenant] = (freed[tenant] or 0) + 1
      owed[tenant] = (owed[tenant] or 0) + runs[i] - charged
      rules.run_ms = rules.run_ms + (runs[i] - rules.run_ms) * LATEST_SHARE
    end
  end
  if #done == 0 then
    return
  end
  call('ZREM', LEASE, unpack(done))
  call('HDEL', OWN, unpack(done))
  call('SREM', CANCEL, unpack(done))
  call('HSET', META, 'run_ms', rules.run_ms)
  for tenant, n in pairs(freed) do
    count_running(tenant, -n)
    correct(tenant, owed[tenant])
    touched[tenant] = true
  end
end

-- Where the tenant goes after its turn: `key` is its place in the ring, nil when it has no more ids.
local function end_turn(tenant, key)
  if not key or room_of(tenant) <= 0 then
    stand_aside(tenant)
    return
  end
  local starts, next_ms = starts_of(tenant)
  if starts > 0 then
    call('ZADD', RING, key, tenant)
  else
    stand_aside(tenant, next_ms)
  end
end

-- Take the tenant's next ids, until its turn is over: `most` are taken, or the rival's key is reached.
-- Returns the ids taken.
local function take(tenant, most, charge, rival)
  local heads = call('ZRANGE', ready_key(tenant), 0, most, 'WITHSCORES')
  local found = floor(#heads / 2)
  if found == 0 then
    stand_aside(tenant)
    return {}
  end
  local started, ids, key = virtual_time(tenant), {}, nil
  repeat
    ids[#ids + 1] = heads[#ids * 2 + 1]
    local next_score = heads[#ids * 2 + 2]
    key = next_score and started + #ids * charge - credit(tonumber(next_score))
  until #ids == most or not key or (rival and key >= rival)
  call('ZREMRANGEBYRANK', ready_key(tenant), 0, #ids - 1)
  call('ZADD', VT, started + #ids * charge, tenant)
  count('ready', tenant, -#ids)
  count_running(tenant, #ids)
  count_starts(tenant, #ids)
  end_turn(tenant, key)
  return ids
end

local function claim(tokens, ends_ms)
  local room = #tokens
  if rules.max_concurrency > 0 then
    room = min(room, rules.max_concurrency - call('ZCARD', LEASE))
  end
  local charged = max(1, floor(rules.run_ms + 0.5))
  local claimed, leases, owners = {}, {}, {}
  while #claimed < room do
    local first = call('ZRANGE', RING, 0, 1, 'WITHSCORES')
    local tenant, rival = first[1], tonumber(first[4])
    if not tenant then
      break
    end
    local charge = charged / allowed_to(tenant).weight
    local starts, next_ms = starts_of(tenant)
    local most = min(room - #claimed, room_of(tenant), starts)
    if rival then
      most = min(most, floor((rival - tonumber(first[2])) / charge) + 1)
    end
    if most <= 0 then
      stand_aside(tenant, starts <= 0 and next_ms or nil)
    else
      for _, id in ipairs(take(tenant, most, charge, rival)) do
        claimed[#claimed + 1] = id
        leases[#leases + 1] = ends_ms
        leases[#leases + 1] = id
        owners[#owners + 1] = id
        owners[#owners + 1] = own_entry(tokens[#claimed], charged, tenant)
      end
    end
  end
  if #claimed > 0 then
    call('ZADD', LEASE, unpack(leases))
    call('HSET', OWN, unpack(owners))
  end
  return table.concat(claimed)
end

-- Ids that were set aside become ready when a worker that knows their type wants some: no more than it wants, for
-- another worker may be before it at the next.
local function welcome(types, wanted)
  for _, kind in ipairs(types) do
    local members = call('ZRANGE', ASIDE, '[' .. kind .. '|', '(' .. kind .. '}', 'BYLEX', 'LIMIT', 0, wanted)
    for i, member in ipairs(members) do
      members[i] = sub(member, #kind + 2)
    end
    make_ready(members)
    wanted = wanted - #members
    if wanted <= 0 then
      return
    end
  end
end

local function due_in()
  local at_ms = next_event_ms()
  return at_ms < math.huge and in_ms(at_ms) or -1
end

local now = clock()
if #ARGV[2] > 0 then
  release(pieces(ARGV[2]), pieces(ARGV[3]), cmsgpack.unpack(ARGV[4]))
end
promote(now)
promote_limited()
if #ARGV[5] > 0 and call('EXISTS', ASIDE) == 1 then
  welcome(cmsgpack.unpack(ARGV[6]), #ARGV[5] / 16)
end
enroll_touched()
local claimed = ''
if not rules.cold and not rules.paused then
  claimed = claim(pieces(ARGV[5]), now + ARGV[1])
end
local more = has_work()
if more then
  wake()
else
  call('DEL', WAKE)
end
return { more and 1 or 0, due_in(), rules.paused and 1 or 0, rules.cold and 1 or 0, claimed }
