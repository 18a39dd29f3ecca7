-- (none) > pending, for every given row whose queue exists and whose id and unique key are free.
-- $1..$28 columns of equal length, in the order of the list below; $29 shard of the statistics;
-- $30 true: no row at all if any queue is unknown. Answers the stored rows; the caller looks after the others.
WITH given AS MATERIALIZED (
    SELECT
        g.*,
        greatest(now(), coalesce(g.not_before, now() + g.run_in_ms * interval '1 millisecond')) AS run_at,
        coalesce(g.not_after, now() + g.expires_in_ms * interval '1 millisecond') AS expires_at
    FROM unnest(
        $1::uuid[], $2::varchar[], $3::integer[], $4::varchar[], $5::varchar[], $6::integer[], $7::jsonb[],
        $8::integer[], $9::boolean[], $10::integer[], $11::boolean[], $12::integer[], $13::integer[],
        $14::bigint[], $15::timestamptz[], $16::bigint[], $17::timestamptz[], $18::text[], $19::jsonb[],
        $20::varchar[], $21::varchar[], $22::varchar[], $23::uuid[],
        $24::varchar[], $25::varchar[], $26::varchar[], $27::boolean[], $28::varchar[]
    ) AS g(
        id, tenant_id, user_id, type, queue_name, priority, input_data,
        max_retries, max_retries_given, retry_delay_ms, retry_delay_given, visibility_timeout_ms, timeout_ms,
        run_in_ms, not_before, expires_in_ms, not_after, tags, metadata,
        unique_key, correlation_id, traceparent, parent_id,
        actor_kind, actor_id, trace_id, override, override_reason
    )
),
-- Held until the COMMIT, so that no queue is deleted under its new jobs.
known AS MATERIALIZED (
    SELECT q.name
    FROM (SELECT DISTINCT queue_name FROM given ORDER BY queue_name) AS wanted
    CROSS JOIN LATERAL (
        SELECT name FROM ferryman.queues WHERE name = wanted.queue_name FOR KEY SHARE OFFSET 0
    ) AS q
),
inserted AS (
    INSERT INTO ferryman.jobs (
        id, tenant_id, user_id, type, queue_name, priority, input_data,
        max_retries, max_retries_given, retry_delay_ms, retry_delay_given, visibility_timeout_ms, timeout_ms,
        run_at, ready_since, expires_at, tags, metadata, unique_key, correlation_id, traceparent, parent_id
    )
    SELECT
        id, tenant_id, user_id, type, queue_name, priority, input_data,
        max_retries, max_retries_given, retry_delay_ms, retry_delay_given, visibility_timeout_ms, timeout_ms,
        run_at, run_at, expires_at, tags::text[], metadata, unique_key, correlation_id, traceparent, parent_id
    FROM given
    -- "IS TRUE" keeps this a hashed look-up: a join of two lists would be quadratic with hash joins off.
    WHERE (queue_name IN (SELECT name FROM known)) IS TRUE
        AND NOT ($30::boolean AND EXISTS (
            SELECT FROM given WHERE (queue_name IN (SELECT name FROM known)) IS NOT TRUE
        ))
    ON CONFLICT DO NOTHING
    RETURNING id
),
stored AS MATERIALIZED (
    SELECT * FROM given WHERE (id IN (SELECT id FROM inserted)) IS TRUE
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, to_status, attempt,
        override, override_reason, correlation_id, trace_id, details
    )
    SELECT
        now(), tenant_id, actor_kind, actor_id, 'submitted', id, type, queue_name, 'pending', 0,
        override, override_reason, correlation_id, trace_id,
        CASE WHEN run_at > now() THEN
            jsonb_build_object('delayMs', ceil(extract(epoch FROM run_at - now()) * 1000)::bigint)
        END
    FROM stored
),
counted AS (
    INSERT INTO ferryman.job_stats AS s (
        queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket, jobs
    )
    SELECT queue_name, date_trunc('minute', now()), tenant_id, type, 'submitted', $29::smallint, 0, 0, count(*)
    FROM stored
    GROUP BY queue_name, tenant_id, type
    ORDER BY queue_name, tenant_id, type
    ON CONFLICT (queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket)
    DO UPDATE SET jobs = s.jobs + EXCLUDED.jobs
),
summed AS (
    INSERT INTO ferryman.queue_totals AS t (queue_name, tenant_id, shard, arrivals)
    SELECT queue_name, tenant_id, $29::smallint, count(*)
    FROM stored
    GROUP BY queue_name, tenant_id
    ORDER BY queue_name, tenant_id
    ON CONFLICT (queue_name, tenant_id, shard) DO UPDATE SET arrivals = t.arrivals + EXCLUDED.arrivals
)
SELECT
    id, queue_name, tenant_id, user_id, priority, run_at, now() AS created_at,
    CASE WHEN run_at > now() THEN 'scheduled' ELSE 'pending' END AS status,
    floor(extract(epoch FROM run_at) * 1000)::bigint AS ready_ms,
    ceil(extract(epoch FROM run_at - now()) * 1000)::bigint AS due_in_ms
FROM stored
