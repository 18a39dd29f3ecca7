-- pending > expired, for waiting jobs past their expiry. $1 limit, $2 actor, $3 shard of the statistics.
WITH late AS MATERIALIZED (
    SELECT id FROM ferryman.jobs
    WHERE status = 'pending' AND expires_at IS NOT NULL AND expires_at < now()
    ORDER BY expires_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
),
expired AS (
    UPDATE ferryman.jobs AS j
    SET status = 'expired', completed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM late AS l
    WHERE j.id = l.id
    RETURNING j.id, j.tenant_id, j.queue_name, j.type, j.attempt, j.correlation_id, j.traceparent, j.completed_at AS at
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, from_status, to_status,
        attempt, correlation_id, trace_id
    )
    SELECT
        at, tenant_id, 'maintainer', $2::varchar, 'expired', id, type, queue_name, 'pending', 'expired', attempt,
        correlation_id, substr(traceparent, 4, 32)
    FROM expired
),
counted AS (
    INSERT INTO ferryman.job_stats AS s (
        queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket, jobs
    )
    SELECT queue_name, date_trunc('minute', at) AS minute, tenant_id, type, 'expired', $3::smallint, 0, 0, count(*)
    FROM expired
    GROUP BY queue_name, minute, tenant_id, type
    ORDER BY queue_name, minute, tenant_id, type
    ON CONFLICT (queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket)
    DO UPDATE SET jobs = s.jobs + EXCLUDED.jobs
)
SELECT id, queue_name, tenant_id, 'expired' AS status FROM expired
