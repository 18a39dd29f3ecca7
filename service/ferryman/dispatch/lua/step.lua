-- step: one cycle of a worker: release what ended, promote what is due, claim.
--
-- KEYS[1] prefix
-- ARGV[1] lease in milliseconds
-- ARGV[2] ids that ended, ARGV[3] their tokens, ARGV[4] msgpack array of their run times in milliseconds
-- ARGV[5] tokens, one for each id that is wanted
-- returns {more, due_in_ms, paused, cold, ids}: more, paused and cold are 0 or 1; due_in_ms is -1 when nothing is due
--   later; ids are those claimed, end to end, in the order of the tokens
--
-- At most 100 ids and 100 tokens a call. A claim that ended is released only under its own token, so a repeated call
-- releases nothing twice. A repeated call claims anew: what an unheard answer claimed comes back by its lease's end.

local LATEST_SHARE = 0.05 -- of one run in the typical run time

local function release(ids, tokens, runs)
  local entries = call('HMGET', OWN, unpack(ids))
  local done, known, freed, used = {}, {}, {}, {}
  for i, id in ipairs(ids) do
    if entries[i] and not known[id] then
      local token, tenant = parse_own(entries[i])
      if token == tokens[i] then
        known[id] = true
        done[#done + 1] = id
        freed[tenant] = (freed[tenant] or 0) + 1
        used[tenant] = (used[tenant] or 0) + runs[i]
        rules.run_ms = rules.run_ms + (runs[i] - rules.run_ms) * LATEST_SHARE
      end
    end
  end
  if #done == 0 then
    return
  end
  call('ZREM', LEASE, unpack(done))
  call('HDEL', OWN, unpack(done))
  call('SREM', CANCEL, unpack(done))
  call('HSET', META, 'run_ms', rules.run_ms)
  if call('EXISTS', SEEN) == 1 then
    call('SADD', SEEN, unpack(done)) -- or a page of a rebuild, read before they ended, would bring them back
  end
  for tenant, n in pairs(freed) do
    count_running(tenant, -n)
    charge(tenant, used[tenant] / rules.weight)
    touched[tenant] = true
  end
end

-- Take the tenant's next ids, until its turn is over: `most` are taken, or the rival's key is reached.
-- Returns the ids taken.
local function take(tenant, running, most, rival)
  local heads = call('ZRANGE', ready_key(tenant), 0, most, 'WITHSCORES')
  if not heads[1] then
    call('ZREM', RING, tenant)
    return {}
  end
  local time, ids, key = virtual_time(tenant), {}, nil
  repeat
    ids[#ids + 1] = heads[#ids * 2 + 1]
    local next_score = heads[#ids * 2 + 2]
    key = next_score and ring_key(time, running + #ids, tonumber(next_score))
  until #ids == most or not key or (rival and key >= rival)
  call('ZREMRANGEBYRANK', ready_key(tenant), 0, #ids - 1)
  count('ready', tenant, -#ids)
  count_running(tenant, #ids)
  if key and room_beside(running + #ids) > 0 then
    call('ZADD', RING, key, tenant)
  else
    call('ZREM', RING, tenant)
  end
  return ids
end

-- The ids of the tenant that is served next, `room` at most; nil when there is none.
local function take_next(room)
  local first = call('ZRANGE', RING, 0, 1, 'WITHSCORES')
  local tenant, rival = first[1], tonumber(first[4])
  if not tenant then
    return nil
  end
  local running = running_of(tenant)
  local most = min(room, room_beside(running))
  if rival then
    most = min(most, floor((rival - tonumber(first[2])) / typical_charge()) + 1)
  end
  if most <= 0 then
    call('ZREM', RING, tenant)
    return {}, tenant
  end
  return take(tenant, running, most, rival), tenant
end

local function claim(tokens, ends_ms)
  local room = #tokens
  if rules.max_concurrency > 0 then
    room = min(room, rules.max_concurrency - call('ZCARD', LEASE))
  end
  local claimed, leases, owners = {}, {}, {}
  while #claimed < room do
    local ids, tenant = take_next(room - #claimed)
    if not ids then
      break
    end
    for _, id in ipairs(ids) do
      claimed[#claimed + 1] = id
      leases[#leases + 1] = ends_ms
      leases[#leases + 1] = id
      owners[#owners + 1] = id
      owners[#owners + 1] = tokens[#claimed] .. tenant
    end
  end
  if #claimed > 0 then
    call('ZADD', LEASE, unpack(leases))
    call('HSET', OWN, unpack(owners))
  end
  return table.concat(claimed)
end

local function due_in(now)
  local first = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
  return first[2] and max(0, tonumber(first[2]) - now) or -1
end

local now = clock()
if #ARGV[2] > 0 then
  release(pieces(ARGV[2]), pieces(ARGV[3]), cmsgpack.unpack(ARGV[4]))
end
promote(now)
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
return { more and 1 or 0, due_in(now), rules.paused and 1 or 0, rules.cold and 1 or 0, claimed }
