-- Creates or replaces queue $1 with settings $2; $3 paused (null: as it is, running when new); $4..$9 who: kind,
-- id, override, reason, correlation, trace. One row, the new one.
WITH stored AS (
    INSERT INTO ferryman.queues AS q (name, settings, paused)
    VALUES ($1::varchar, $2::jsonb, coalesce($3::boolean, false))
    ON CONFLICT (name) DO UPDATE
    SET settings = EXCLUDED.settings,
        paused = coalesce($3, q.paused),
        version = q.version + 1,
        updated_at = clock_timestamp()
    RETURNING name, settings, paused, version
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, actor_kind, actor_id, action, queue_name, override, override_reason, correlation_id, trace_id, details
    )
    SELECT clock_timestamp(), $4::varchar, $5::varchar,
        CASE WHEN version = 1 THEN 'queue_created' ELSE 'queue_replaced' END, name,
        $6::boolean, $7::varchar, $8::varchar, $9::varchar,
        jsonb_build_object('version', version, 'paused', paused, 'settings', settings)
    FROM stored
)
SELECT name, settings::text AS settings, paused, version FROM stored
