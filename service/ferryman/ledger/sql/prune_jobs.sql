-- Looks at the next $6 jobs by id after $4 and before $5 and deletes those that ended longer ago than they are
-- kept, each with an audit row and with its dead letter. $1 tenant (null: every), $2 user (null: every), $3 queue
-- (null: any). $7 queues with, in equal length, what ended before these instants goes: $8 completed, $9 cancelled
-- or expired, $10 dead letters. $11 true: only counts; $12..$17 who: kind, id, override, reason, correlation,
-- trace. One row: `last` looked at (null: none), and what went.
WITH looked_at AS MATERIALIZED (
    SELECT id, queue_name, status, user_id, coalesce(completed_at, updated_at) AS ended_at
    FROM (
        (
            SELECT * FROM ferryman.jobs
            WHERE tenant_id = $1::text AND (tenant_id, id) > ($1, $4::uuid) AND (tenant_id, id) < ($1, $5::uuid)
            ORDER BY id
        ) UNION ALL (
            SELECT * FROM ferryman.jobs WHERE $1 IS NULL AND id > $4 AND id < $5 ORDER BY id
        )
    ) AS j
    ORDER BY id
    LIMIT $6::int
),
doomed AS MATERIALIZED (
    SELECT looked_at.id, looked_at.status, looked_at.ended_at
    FROM looked_at
    JOIN unnest($7::varchar[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[])
        AS policy (queue_name, completed, cancelled, dead)
        ON policy.queue_name = looked_at.queue_name
    WHERE ($2::int IS NULL OR user_id = $2)
        AND ($3::text IS NULL OR looked_at.queue_name = $3)
        AND ended_at < CASE status
            WHEN 'completed' THEN policy.completed
            WHEN 'cancelled' THEN policy.cancelled
            WHEN 'expired' THEN policy.cancelled
            WHEN 'dead_letter' THEN policy.dead
        END
    ORDER BY looked_at.id
),
deleted AS (
    DELETE FROM ferryman.jobs AS j
    USING doomed
    WHERE NOT $11::boolean AND j.id = doomed.id AND j.status = doomed.status
        AND coalesce(j.completed_at, j.updated_at) = doomed.ended_at
    RETURNING j.id, j.tenant_id, j.type, j.queue_name, j.status, j.attempt
),
letters AS (
    DELETE FROM ferryman.dead_letter_jobs AS letter
    USING deleted
    WHERE letter.original_job_id = deleted.id AND deleted.status = 'dead_letter' AND letter.status <> 'requeued'
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, from_status, attempt,
        override, override_reason, correlation_id, trace_id
    )
    SELECT clock_timestamp(), tenant_id, $12::varchar, $13::varchar, 'pruned', id, type, queue_name, status, attempt,
        $14::boolean, $15::varchar, $16::varchar, $17::varchar
    FROM deleted
),
gone AS (
    SELECT status FROM deleted
    UNION ALL
    SELECT status FROM doomed WHERE $11
)
SELECT (SELECT id FROM looked_at ORDER BY id DESC LIMIT 1) AS last,
    count(*) FILTER (WHERE status = 'completed') AS completed,
    count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
    count(*) FILTER (WHERE status = 'expired') AS expired,
    count(*) FILTER (WHERE status = 'dead_letter') AS dead_letters
FROM gone
