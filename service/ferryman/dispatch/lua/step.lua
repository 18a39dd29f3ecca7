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
    charge(tenant, used[tenant] / allowed_to(tenant).weight)
    touched[tenant] = true
  end
end

-- Look at the candidate's next id. Without one, or without room or a start for it, it has no key and leaves.
local function look_ahead(candidate)
  local at = (candidate.taken - candidate.read_from) * 2
  if at >= #candidate.heads then
    candidate.read_from, at = candidate.taken, 0
    candidate.heads =
      call('ZRANGE', ready_key(candidate.tenant), candidate.taken, candidate.taken + candidate.ids - 1, 'WITHSCORES')
  end
  local score = tonumber(candidate.heads[at + 2])
  candidate.next, candidate.key = candidate.heads[at + 1], nil
  if score and candidate.taken < candidate.room and candidate.taken < candidate.starts then
    candidate.key = ring_key(candidate.tenant, candidate.time, candidate.running + candidate.taken, score)
  end
end

local function is_before(one, other)
  return one.key < other.key or (one.key == other.key and one.tenant < other.tenant)
end

-- The tenants that can be served next, `room` of them at most: no other one's turn comes within so many claims.
local function line_up(room)
  local tenants = call('ZRANGE', RING, 0, room - 1)
  if #tenants == 0 then
    return tenants, {}
  end
  local running, times = call('HMGET', INFL, unpack(tenants)), call('ZMSCORE', VT, unpack(tenants))
  local ids = math.ceil(room / #tenants) + 1
  local candidates, line = {}, {}
  for i, tenant in ipairs(tenants) do
    local n = tonumber(running[i] or 0)
    local candidate = { tenant = tenant, running = n, time = tonumber(times[i] or 0) }
    candidate.room, candidate.starts = room_beside(tenant, n), starts_of(tenant)
    candidate.taken, candidate.heads, candidate.read_from, candidate.ids = 0, {}, 0, ids
    look_ahead(candidate)
    candidates[i] = candidate
    if candidate.key then
      line[#line + 1] = candidate
    end
  end
  table.sort(line, is_before)
  return candidates, line
end

-- `line` is a heap; put its first one, whose key has changed, where it belongs.
local function sink_first(line)
  local at, moved = 1, line[1]
  while true do
    local child = at * 2
    if line[child + 1] and is_before(line[child + 1], line[child]) then
      child = child + 1
    end
    if not line[child] or not is_before(line[child], moved) then
      break
    end
    line[at], at = line[child], child
  end
  line[at] = moved
end

-- Write back what a round took from each tenant, and where in the ring it is now, or from when on it may go on.
local function write_back(candidates)
  local moved, leaving = {}, {}
  for _, candidate in ipairs(candidates) do
    local tenant, taken = candidate.tenant, candidate.taken
    if taken > 0 then
      call('ZREMRANGEBYRANK', ready_key(tenant), 0, taken - 1)
      count('ready', tenant, -taken)
      count_running(tenant, taken)
      count_starts(tenant, taken)
    end
    if not candidate.key and candidate.next and taken < candidate.room then
      local _, next_ms = starts_of(tenant)
      stand_aside(tenant, next_ms)
    elseif not candidate.key then
      leaving[#leaving + 1] = tenant
    elseif taken > 0 then
      moved[#moved + 1] = candidate.key
      moved[#moved + 1] = tenant
    end
  end
  if #moved > 0 then
    call('ZADD', RING, unpack(moved))
  end
  if #leaving > 0 then
    call('ZREM', RING, unpack(leaving))
  end
end

local function claim(tokens, ends_ms)
  local room = #tokens
  if rules.max_concurrency > 0 then
    room = min(room, rules.max_concurrency - call('ZCARD', LEASE))
  end
  local claimed, leases, owners = {}, {}, {}
  while #claimed < room do
    local candidates, line = line_up(room - #claimed)
    if #candidates == 0 then
      break
    end
    while line[1] and #claimed < room do
      local first = line[1]
      claimed[#claimed + 1] = first.next
      leases[#leases + 1], leases[#leases + 2] = ends_ms, first.next
      owners[#owners + 1], owners[#owners + 2] = first.next, tokens[#claimed] .. first.tenant
      first.taken = first.taken + 1
      look_ahead(first)
      if not first.key then
        line[1] = line[#line]
        line[#line] = nil
      end
      if line[2] then
        sink_first(line)
      end
    end
    write_back(candidates)
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
