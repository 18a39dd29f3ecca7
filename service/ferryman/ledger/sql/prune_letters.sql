-- Looks at the next $6 dead letters by id after $4 and before $5 and deletes those that were requeued longer ago
-- than they are kept; the others go with their jobs. $1 tenant (null: every), $2 user (null: every), $3 queue
-- (null: any); $7 queues with, in equal length, $8: what was requeued before this instant goes. $9 true: only
-- counts. One row: `last` looked at (null: none), and how many went.
WITH looked_at AS MATERIALIZED (
    SELECT id, queue_name, user_id, status, closed_at FROM ferryman.dead_letter_jobs
    WHERE ($1::text IS NULL OR tenant_id = $1) AND id > $4::uuid AND id < $5::uuid
    ORDER BY id
    LIMIT $6::int
),
doomed AS MATERIALIZED (
    SELECT looked_at.id
    FROM looked_at
    JOIN unnest($7::varchar[], $8::timestamptz[]) AS policy (queue_name, dead)
        ON policy.queue_name = looked_at.queue_name
    WHERE status = 'requeued' AND closed_at < policy.dead
        AND ($2::int IS NULL OR user_id = $2)
        AND ($3::text IS NULL OR looked_at.queue_name = $3)
    ORDER BY looked_at.id
),
deleted AS (
    DELETE FROM ferryman.dead_letter_jobs AS letter USING doomed WHERE NOT $9::boolean AND letter.id = doomed.id
    RETURNING letter.id
),
gone AS (
    SELECT id FROM deleted
    UNION ALL
    SELECT id FROM doomed WHERE $9
)
SELECT (SELECT id FROM looked_at ORDER BY id DESC LIMIT 1) AS last, count(*) AS dead_letters FROM gone
