-- A worker's sign of life: its row, and the leases of the attempts that it holds. $1 worker, $2 pod, $3 queues,
-- $4 types, $5 slots, $6 busy, $7 state, $8 ids, $9 tokens. One row for each id, or a single one without id.
-- A lease is written again once a sixth of its visibility timeout has passed: less often costs nothing, more
-- often only writes. Commits asynchronously: the next beat is near.
WITH alive AS (
    INSERT INTO ferryman.workers AS w (id, pod, queues, types, slots, busy, state)
    SELECT $1, $2, $3, $4, $5, $6, $7
    WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL
    ON CONFLICT (id) DO UPDATE
    SET pod = EXCLUDED.pod, queues = EXCLUDED.queues, types = EXCLUDED.types, slots = EXCLUDED.slots,
        busy = EXCLUDED.busy, state = EXCLUDED.state, beat_at = now()
    RETURNING drain_requested
),
held AS MATERIALIZED (
    SELECT * FROM unnest($8::uuid[], $9::uuid[]) AS h(id, token)
),
renewed AS (
    UPDATE ferryman.jobs AS j
    SET lease_until = now() + j.visibility_timeout_ms * interval '3 milliseconds'
    FROM held AS h
    WHERE j.id = h.id AND j.claim_token = h.token
        AND j.lease_until < now() + j.visibility_timeout_ms * interval '2.8333 milliseconds'
)
SELECT
    a.drain_requested, h.id, j.claim_token IS NOT DISTINCT FROM h.token AS holds, j.cancel_requested
FROM alive AS a
LEFT JOIN held AS h ON true
LEFT JOIN LATERAL (
    SELECT claim_token, cancel_requested FROM ferryman.jobs WHERE id = h.id OFFSET 0
) AS j ON true
