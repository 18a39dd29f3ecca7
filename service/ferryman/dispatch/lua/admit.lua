-- admit: reserve places for submissions.
--
-- KEYS[1] prefix
-- ARGV[1] how many, ARGV[2] how many jobs may wait, ARGV[3] seconds after which a place expires
-- returns how many were granted; -1 when the queue is cold, for then its count says nothing

if rules.cold then
  return -1
end
local second = floor(clock() / 1000)
local taken = 0
for _, waiting in ipairs(call('HMGET', COUNT, 'ready:', 'scheduled:', 'retrying:')) do
  taken = taken + (waiting or 0)
end
local places = call('HGETALL', RESV)
for i = 1, #places, 2 do
  if tonumber(places[i]) <= second then
    call('HDEL', RESV, places[i])
  else
    taken = taken + places[i + 1]
  end
end
local granted = max(0, min(tonumber(ARGV[1]), ARGV[2] - taken))
if granted > 0 then
  call('HINCRBY', RESV, second + ARGV[3], granted)
end
return granted
