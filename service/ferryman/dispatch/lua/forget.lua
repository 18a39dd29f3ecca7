-- forget: remove every key of a queue that was deleted.
--
-- KEYS[1] prefix
-- returns 1

for _, field in ipairs(call('HKEYS', COUNT)) do
  local tenant = string.match(field, '^ready:(.+)$')
  if tenant then
    call('UNLINK', ready_key(tenant))
  end
end
call('UNLINK', RING, VT, DUE, JOB, LEASE, OWN, INFL, COUNT, WAKE, RESV, CANCEL, META, SEEN, LIM, RL, TENANTS, ASIDE)
return 1
