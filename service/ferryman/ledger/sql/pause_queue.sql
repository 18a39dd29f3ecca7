-- Pauses queue $1 or resumes it ($2); $3..$8 who: kind, id, override, reason, correlation, trace. One row, as it
-- is now; a queue that was so already is left alone. No row: no such queue.
WITH locked AS MATERIALIZED (
    SELECT * FROM ferryman.queues WHERE name = $1::varchar FOR NO KEY UPDATE
),
changed AS (
    UPDATE ferryman.queues AS q
    SET paused = $2::boolean, version = q.version + 1, updated_at = clock_timestamp()
    FROM locked
    WHERE q.name = locked.name AND locked.paused <> $2
    RETURNING q.name, q.version
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, actor_kind, actor_id, action, queue_name, override, override_reason, correlation_id, trace_id, details
    )
    SELECT clock_timestamp(), $3::varchar, $4::varchar,
        CASE WHEN $2 THEN 'queue_paused' ELSE 'queue_resumed' END, name,
        $5::boolean, $6::varchar, $7::varchar, $8::varchar, jsonb_build_object('version', version)
    FROM changed
)
SELECT locked.name, locked.settings::text AS settings, $2 AS paused,
    coalesce((SELECT version FROM changed), locked.version) AS version
FROM locked
