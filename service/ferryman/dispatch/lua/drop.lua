-- drop: after all pages of a rebuild, drop waiting ids that no page and no push has named since it began.
--
-- KEYS[1] prefix
-- ARGV[1] generation
-- ARGV[2] tenant whose ready ids are looked at, '' for those that are due or aside
-- ARGV[3] cursor, 0 at first
-- returns the cursor to go on with, 0 at the end; -1 when this rebuild is over because another one has begun
--
-- Some 100 ids a call. Repeating a call changes nothing.

if call('SISMEMBER', SEEN, ARGV[1]) == 0 then
  return -1
end
call('PEXPIRE', SEEN, REBUILD_IDLE_MS)
local tenant = ARGV[2]
local scan
if tenant == '' then
  scan = call('HSCAN', JOB, ARGV[3], 'COUNT', 100)
else
  scan = call('ZSCAN', ready_key(tenant), ARGV[3], 'COUNT', 100)
end
for i = 1, #scan[2], 2 do
  local id = scan[2][i]
  if call('SISMEMBER', SEEN, id) == 0 then
    if tenant == '' then
      remove_due(id)
    else
      remove_ready(id, tenant)
    end
  end
end
enroll_touched()
return tonumber(scan[1])
