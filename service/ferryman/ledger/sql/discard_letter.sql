-- A dead letter is discarded; its job stays dead-lettered. $1 tenant (null: every), $2 user (null: every),
-- $3 letter; $4..$9 who: kind, id, override, reason, correlation, trace. Nothing of it is counted in the statistics.
-- One row: `result` discarded or not_dead. No row: the scope has no such letter.
WITH named AS MATERIALIZED (
    SELECT id, original_job_id FROM ferryman.dead_letter_jobs
    WHERE id = $3::uuid AND ($1::text IS NULL OR tenant_id = $1) AND ($2::int IS NULL OR user_id = $2)
),
-- Jobs before letters, as everywhere.
job AS MATERIALIZED (
    SELECT j.* FROM named
    CROSS JOIN LATERAL (
        SELECT id FROM ferryman.jobs WHERE id = named.original_job_id FOR UPDATE OFFSET 0
    ) AS j
),
locked AS MATERIALIZED (
    SELECT letter.* FROM named
    LEFT JOIN job ON true
    CROSS JOIN LATERAL (
        SELECT id, status FROM ferryman.dead_letter_jobs WHERE id = named.id FOR UPDATE OFFSET 0
    ) AS letter
),
judged AS MATERIALIZED (
    SELECT id, status = 'dead' AS is_dead, clock_timestamp() AS at FROM locked
),
discarded AS (
    UPDATE ferryman.dead_letter_jobs AS letter
    SET status = 'discarded', closed_at = judged.at
    FROM judged
    WHERE letter.id = judged.id AND judged.is_dead
    RETURNING letter.*
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, from_status, to_status, attempt,
        override, override_reason, correlation_id, trace_id, details
    )
    SELECT closed_at, tenant_id, $4::varchar, $5::varchar, 'discarded', original_job_id, job_type, queue_name,
        'dead_letter', 'dead_letter', attempt, $6::boolean, $7::varchar, $8::varchar, $9::varchar,
        jsonb_build_object('deadLetterId', id)
    FROM discarded
)
SELECT CASE WHEN is_dead THEN 'discarded' ELSE 'not_dead' END AS result FROM judged
