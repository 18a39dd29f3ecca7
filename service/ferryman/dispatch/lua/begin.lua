-- begin: a rebuild begins, and any other one is over.
--
-- KEYS[1] prefix
-- ARGV[1] its generation, longer than an id
-- returns 1

call('DEL', SEEN)
call('SADD', SEEN, ARGV[1])
call('PEXPIRE', SEEN, REBUILD_IDLE_MS)
return 1
