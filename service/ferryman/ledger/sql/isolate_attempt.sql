-- Notes that a running attempt has its worker to itself. $1 job, $2 token. No row: the lease was lost.
-- The lease is renewed with it, so that a rescue that judged the attempt before comes too late.
UPDATE ferryman.jobs
SET isolated = true, lease_until = now() + visibility_timeout_ms * interval '3 milliseconds'
WHERE id = $1 AND claim_token = $2
RETURNING id
