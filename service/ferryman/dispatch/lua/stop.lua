-- stop: a running job is asked to stop; `beat` tells its worker.
--
-- KEYS[1] prefix
-- ARGV[1] id
-- returns 1, or 0 when the id is not leased here: then the ledger's heartbeat tells

if not call('ZSCORE', LEASE, ARGV[1]) then
  return 0
end
call('SADD', CANCEL, ARGV[1])
return 1
