-- Attempts whose leases passed in the dispatcher and which the ledger has not heard of for a visibility timeout
-- either: every sign of life sets lease_until to three of them ahead. $1 ids, $2 tokens. Locks nothing.
WITH lost AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS l(id, token))
SELECT
    j.id, j.claim_token, j.attempt, j.isolated, j.crashes, j.cancel_requested, j.max_retries, j.lease_until,
    greatest(0, floor(extract(epoch FROM j.started_at - j.run_at) * 1000))::bigint AS wait_ms,
    greatest(0, floor(extract(epoch FROM now() - j.started_at) * 1000))::bigint AS run_ms
FROM lost AS l
CROSS JOIN LATERAL (SELECT * FROM ferryman.jobs WHERE id = l.id OFFSET 0) AS j
WHERE j.claim_token = l.token
    AND j.lease_until < now() + j.visibility_timeout_ms * interval '2 milliseconds'
