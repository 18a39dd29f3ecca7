-- running > completed, for attempts that still hold their token. $1 ids, $2 tokens, $3 outputs, $4 run_ms,
-- $5 wait_ms, of equal length; $6 worker, $7 shard of the statistics. No row: the lease was lost.
-- A cancellation that was asked for comes too late: the job has completed.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::jsonb[], $4::bigint[], $5::bigint[])
    AS g(id, token, output_data, run_ms, wait_ms)
),
completed AS (
    UPDATE ferryman.jobs AS j
    SET status = 'completed', output_data = g.output_data, claim_token = NULL, lease_until = NULL,
        completed_at = clock_timestamp(), updated_at = clock_timestamp(), error_class = NULL,
        error_fingerprint = NULL, error_message = NULL, error_details = NULL
    FROM given AS g
    WHERE j.id = g.id AND j.claim_token = g.token -- the token matches only while the attempt runs
    RETURNING
        j.id, j.tenant_id, j.queue_name, j.type, j.attempt, j.correlation_id, j.traceparent,
        j.completed_at AS at, g.token, g.run_ms, g.wait_ms
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, from_status, to_status,
        attempt, correlation_id, trace_id, details
    )
    SELECT
        at, tenant_id, 'worker', $6::varchar, 'completed', id, type, queue_name, 'running', 'completed',
        attempt, correlation_id, substr(traceparent, 4, 32),
        jsonb_build_object('token', token, 'worker', $6::varchar, 'waitMs', wait_ms, 'runMs', run_ms)
    FROM completed
),
counted AS (
    INSERT INTO ferryman.job_stats AS s (
        queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket, jobs, wait_ms, run_ms
    )
    SELECT
        queue_name, date_trunc('minute', at) AS minute, tenant_id, type, 'completed', $7::smallint,
        ferryman.bucket(wait_ms) AS wait_bucket, ferryman.bucket(run_ms) AS run_bucket,
        count(*), sum(wait_ms), sum(run_ms)
    FROM completed
    GROUP BY queue_name, minute, tenant_id, type, wait_bucket, run_bucket
    ORDER BY queue_name, minute, tenant_id, type, wait_bucket, run_bucket
    ON CONFLICT (queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket) DO UPDATE
    SET jobs = s.jobs + EXCLUDED.jobs, wait_ms = s.wait_ms + EXCLUDED.wait_ms, run_ms = s.run_ms + EXCLUDED.run_ms
),
summed AS (
    INSERT INTO ferryman.queue_totals AS t (queue_name, tenant_id, shard, completions, service_ms)
    SELECT queue_name, tenant_id, $7::smallint, count(*), sum(run_ms)
    FROM completed
    GROUP BY queue_name, tenant_id
    ORDER BY queue_name, tenant_id
    ON CONFLICT (queue_name, tenant_id, shard) DO UPDATE
    SET completions = t.completions + EXCLUDED.completions, service_ms = t.service_ms + EXCLUDED.service_ms
)
SELECT id, queue_name, tenant_id, 'completed' AS status FROM completed
