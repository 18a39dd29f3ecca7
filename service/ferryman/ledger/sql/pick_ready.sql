-- The first ready jobs of a queue in the order of their aged scores. $1 queue, $2 how many, $3 types.
-- Nothing is locked: the claim that follows decides. Each priority that occurs is one step along the index.
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
SELECT ready.id
FROM levels AS l
CROSS JOIN LATERAL (
    SELECT id, ready_since FROM ferryman.jobs
    WHERE queue_name = $1 AND status = 'pending' AND priority = l.priority
        AND ready_since <= now() AND run_at <= now()
        AND (expires_at IS NULL OR expires_at > now()) AND type = ANY($3::varchar[])
    ORDER BY ready_since
    LIMIT $2
) AS ready
WHERE l.priority IS NOT NULL
ORDER BY ready.ready_since - l.priority * interval '1 millisecond' * (
    SELECT coalesce((settings ->> 'priorityAgingMs')::double precision, 60000)
    FROM ferryman.queues WHERE name = $1
)
LIMIT $2
