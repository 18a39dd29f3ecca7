-- warm: a rebuild is complete; from now on Redis knows the queue.
--
-- KEYS[1] prefix
-- ARGV[1] generation, which becomes the epoch
-- returns 1; 0 when this rebuild is over because another one has begun

if call('SISMEMBER', SEEN, ARGV[1]) == 0 then
  return 0
end
call('HSET', META, 'epoch', ARGV[1])
call('DEL', SEEN)
rules.cold = false
if has_work() then
  wake()
end
return 1
