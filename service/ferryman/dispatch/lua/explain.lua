-- explain: where a waiting id stands, and what its tenant runs and may.
--
-- KEYS[1] prefix
-- ARGV[1] id, ARGV[2] its tenant
-- returns {cold, where, ahead, comes_in_ms, ready, running, running_of_all, tenants_ahead, tenants, next_start_in_ms}
--   cold is 0 or 1; where: 'ready', 'due', 'put_off', 'aside', 'claimed' or 'nowhere'; ahead: how many ready ids of the
--   tenant go before it, -1 when it is not ready; comes_in_ms: of one that is due or put off, else -1; ready, running:
--   how many ids of the tenant are, and of all; tenants_ahead: of its tenant in the ring of so many tenants, -1 when it
--   is not in it; next_start_in_ms: when its tenant may go on that has spent its rate, else -1
--
-- It changes nothing.

local id, tenant = ARGV[1], ARGV[2]
local _, exact = clock()

local WHERE = { s = 'due', r = 'due', p = 'put_off', a = 'aside' }

local function look_for()
  local ahead = call('ZRANK', ready_key(tenant), id)
  if ahead then
    return 'ready', ahead, -1
  end
  local entry = call('HGET', JOB, id)
  if entry then
    local due_ms = call('ZSCORE', DUE, id)
    return WHERE[sub(entry, 1, 1)], -1, due_ms and in_ms(tonumber(due_ms)) or -1
  end
  return call('ZSCORE', LEASE, id) and 'claimed' or 'nowhere', -1, -1
end

local function next_start_in_ms()
  local at_ms = tonumber(call('ZSCORE', LIM, tenant) or 0)
  return at_ms > exact and in_ms(at_ms) or -1
end

local where, ahead, comes_in_ms = look_for()
return {
  rules.cold and 1 or 0,
  where,
  ahead,
  comes_in_ms,
  tonumber(call('HGET', COUNT, 'ready:' .. tenant) or 0),
  tonumber(call('HGET', INFL, tenant) or 0),
  call('ZCARD', LEASE),
  call('ZRANK', RING, tenant) or -1,
  call('ZCARD', RING),
  next_start_in_ms(),
}
