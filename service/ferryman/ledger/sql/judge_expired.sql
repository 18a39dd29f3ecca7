-- Attempts whose leases ran out in the ledger. $1 how long the ledger has been reachable, in ms: a longer
-- visibility timeout waits until its worker could have beaten. $2 limit. Locks nothing.
SELECT
    id, claim_token, attempt, isolated, crashes, cancel_requested, max_retries, lease_until,
    greatest(0, floor(extract(epoch FROM started_at - run_at) * 1000))::bigint AS wait_ms,
    greatest(0, floor(extract(epoch FROM now() - started_at) * 1000))::bigint AS run_ms
FROM ferryman.jobs
WHERE status = 'running' AND lease_until < now() AND visibility_timeout_ms <= $1::bigint
ORDER BY lease_until
LIMIT $2
