-- Deletes queue $1, whose row is locked, unless it has unfinished jobs; $2..$7 who: kind, id, override, reason,
-- correlation, trace. Its totals stay: they only ever grow. No row: it has unfinished jobs.
WITH deleted AS (
    DELETE FROM ferryman.queues AS q
    WHERE q.name = $1::varchar AND NOT EXISTS (
        SELECT FROM ferryman.jobs WHERE queue_name = $1 AND status IN ('pending', 'running')
    )
    RETURNING q.name, q.version, q.settings
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, actor_kind, actor_id, action, queue_name, override, override_reason, correlation_id, trace_id, details
    )
    SELECT clock_timestamp(), $2::varchar, $3::varchar, 'queue_deleted', name,
        $4::boolean, $5::varchar, $6::varchar, $7::varchar,
        jsonb_build_object('version', version, 'settings', settings)
    FROM deleted
)
SELECT name FROM deleted
