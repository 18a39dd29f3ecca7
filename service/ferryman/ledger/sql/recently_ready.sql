-- Waiting jobs that became ready within the last $2 milliseconds in queue $1, $3 at most, the oldest first.
-- Each priority that occurs is one step along the index.
WITH RECURSIVE levels AS (
    (
        SELECT priority FROM ferryman.jobs
        WHERE queue_name = $1 AND status = 'pending' ORDER BY priority DESC LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT j.priority FROM ferryman.jobs AS j
        WHERE j.queue_name = $1 AND j.status = 'pending' AND j.priority < l.priority
        ORDER BY j.priority DESC LIMIT 1
    )
    FROM levels AS l WHERE l.priority IS NOT NULL
)
SELECT
    ready.id, ready.queue_name, ready.tenant_id, ready.status, ready.attempt, ready.priority, ready.claim_token,
    floor(extract(epoch FROM ready.ready_since) * 1000)::bigint AS ready_ms,
    greatest(0, ceil(extract(epoch FROM ready.run_at - now()) * 1000))::bigint AS due_in_ms,
    0::bigint AS lease_ms,
    (SELECT settings ->> 'priorityAgingMs' FROM ferryman.queues WHERE name = $1) AS aging_ms
FROM levels AS l
CROSS JOIN LATERAL (
    SELECT * FROM ferryman.jobs
    WHERE queue_name = $1 AND status = 'pending' AND priority = l.priority
        AND ready_since BETWEEN now() - $2::bigint * interval '1 millisecond' AND now()
    ORDER BY ready_since
    LIMIT $3
) AS ready
WHERE l.priority IS NOT NULL
ORDER BY ready.ready_since
LIMIT $3
