-- running > whatever each verdict says, for attempts that still hold their token. $1..$14 columns of equal
-- length, in the order of the list below; $15 and $16 kind and id of the actor; $17 shard of the statistics.
-- No row: the lease was lost. A job whose cancellation was asked for is cancelled instead of waiting again.
-- `seen` fences a rescue besides: the lease must still be the one that was judged.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::varchar[], $4::bigint[], $5::jsonb[], $6::varchar[], $7::text[],
        $8::jsonb[], $9::varchar[], $10::varchar[], $11::bigint[], $12::bigint[], $13::integer[],
        $14::timestamptz[]
    ) AS g(
        id, token, verdict, delay_ms, output_data, error_class, error_message,
        error_details, error_fingerprint, reason, run_ms, wait_ms, crashes,
        seen
    )
),
held AS MATERIALIZED (
    SELECT
        g.*, j.started_at, j.worker_id, j.attempt, j.traceparent, clock_timestamp() AS at,
        CASE
            WHEN j.cancel_requested AND g.verdict IN ('retried', 'snoozed', 'released', 'reaped') THEN 'cancelled'
            ELSE g.verdict
        END AS action
    FROM given AS g
    CROSS JOIN LATERAL (
        SELECT claim_token, started_at, worker_id, attempt, traceparent, cancel_requested, lease_until
        FROM ferryman.jobs WHERE id = g.id FOR UPDATE OFFSET 0
    ) AS j
    WHERE j.claim_token = g.token AND (g.seen IS NULL OR j.lease_until = g.seen)
),
judged AS MATERIALIZED (
    SELECT
        *,
        CASE action
            WHEN 'completed' THEN 'completed'
            WHEN 'dead_lettered' THEN 'dead_letter'
            WHEN 'cancelled' THEN 'cancelled'
            ELSE 'pending'
        END AS becomes,
        CASE WHEN action IN ('retried', 'snoozed', 'released', 'reaped') THEN delay_ms END AS next_delay_ms,
        CASE WHEN error_class IS NOT NULL THEN
            jsonb_build_object(
                'class', error_class, 'message', error_message, 'details', error_details,
                'fingerprint', error_fingerprint
            )
        END AS error
    FROM held
),
settled AS (
    UPDATE ferryman.jobs AS j
    SET status = e.becomes, claim_token = NULL, lease_until = NULL, isolated = false, updated_at = e.at,
        completed_at = CASE WHEN e.becomes <> 'pending' THEN e.at END,
        run_at = CASE
            WHEN e.becomes = 'pending' THEN e.at + e.delay_ms * interval '1 millisecond' ELSE j.run_at
        END,
        -- What was released or reaped takes its old place again; a retry and a snooze take a new one.
        ready_since = CASE
            WHEN e.action IN ('retried', 'snoozed') THEN e.at + e.delay_ms * interval '1 millisecond'
            ELSE j.ready_since
        END,
        retry_count = j.retry_count + (e.action = 'retried')::integer,
        crashes = coalesce(e.crashes, j.crashes),
        output_data = CASE WHEN e.action = 'completed' THEN e.output_data ELSE j.output_data END,
        error_class = CASE WHEN e.action = 'completed' THEN NULL ELSE coalesce(e.error_class, j.error_class) END,
        error_message = CASE
            WHEN e.action = 'completed' THEN NULL ELSE coalesce(e.error_message, j.error_message)
        END,
        error_details = CASE
            WHEN e.action = 'completed' THEN NULL ELSE coalesce(e.error_details, j.error_details)
        END,
        error_fingerprint = CASE
            WHEN e.action = 'completed' THEN NULL ELSE coalesce(e.error_fingerprint, j.error_fingerprint)
        END,
        failed_attempts = CASE WHEN e.action = 'completed' THEN j.failed_attempts ELSE
            -- Snoozes are without number, so the list is not: the oldest entry makes room.
            CASE WHEN jsonb_array_length(j.failed_attempts) >= 250 THEN j.failed_attempts - 0
                 ELSE j.failed_attempts END
            || jsonb_build_object(
                'attempt', e.attempt, 'startedAt', ferryman.rfc3339(e.started_at),
                'endedAt', ferryman.rfc3339(e.at), 'waitMs', e.wait_ms, 'runMs', e.run_ms,
                'workerId', e.worker_id, 'outcome', e.action, 'error', e.error,
                'nextDelayMs', e.next_delay_ms, 'countsAsRetry', e.action = 'retried',
                'traceId', substr(e.traceparent, 4, 32)
            )
        END
    FROM judged AS e
    WHERE j.id = e.id
    RETURNING
        j.id, j.tenant_id, j.user_id, j.type, j.status, j.queue_name, j.priority, j.attempt, j.retry_count,
        j.max_retries, j.crashes, j.created_at, j.run_at, j.ready_since, j.worker_id, j.correlation_id,
        j.traceparent, e.action, e.token, e.at, e.run_ms, e.wait_ms, e.next_delay_ms, e.error, e.reason,
        CASE WHEN e.becomes = 'dead_letter' THEN j.failed_attempts END AS attempts,
        CASE WHEN e.becomes = 'dead_letter' THEN j.input_data END AS input_data,
        CASE WHEN e.becomes = 'dead_letter' THEN j.metadata END AS metadata,
        CASE WHEN e.becomes = 'dead_letter' THEN j.tags END AS tags
),
lettered AS (
    INSERT INTO ferryman.dead_letter_jobs (
        id, original_job_id, tenant_id, user_id, job_type, queue_name, dead_letter_queue, priority, reason,
        error_class, error_fingerprint, error_message, error_details, attempts, attempt, retry_count,
        max_retries, redrives, failed_at, original_created_at, worker_id, correlation_id, traceparent,
        metadata, tags, input_data
    )
    SELECT
        ferryman.uuid7(s.at), s.id, s.tenant_id, s.user_id, s.type, s.queue_name,
        coalesce(
            (SELECT settings ->> 'deadLetterQueue' FROM ferryman.queues WHERE name = s.queue_name),
            s.queue_name || '_dlq'
        ),
        s.priority, s.reason, s.error ->> 'class', s.error ->> 'fingerprint', s.error ->> 'message',
        s.error -> 'details', s.attempts, s.attempt, s.retry_count, s.max_retries,
        (
            SELECT count(*)
            FROM (SELECT status FROM ferryman.dead_letter_jobs WHERE original_job_id = s.id OFFSET 0) AS d
            WHERE d.status = 'requeued'
        ),
        s.at, s.created_at, s.worker_id, s.correlation_id, s.traceparent, s.metadata, s.tags, s.input_data
    FROM settled AS s
    WHERE s.status = 'dead_letter'
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, from_status, to_status,
        attempt, correlation_id, trace_id, details
    )
    SELECT
        at, tenant_id, $15::varchar, $16::varchar, action, id, type, queue_name, 'running', status, attempt,
        correlation_id, substr(traceparent, 4, 32),
        jsonb_strip_nulls(jsonb_build_object(
            'token', token, 'worker', worker_id, 'waitMs', wait_ms, 'runMs', run_ms,
            'delayMs', next_delay_ms, 'crashes', CASE WHEN action = 'reaped' THEN crashes END,
            'error', error - 'details' - 'fingerprint'
        ))
    FROM settled
),
counted AS (
    INSERT INTO ferryman.job_stats AS s (
        queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket, jobs, wait_ms, run_ms
    )
    SELECT
        queue_name, date_trunc('minute', at) AS minute, tenant_id, type,
        CASE action
            WHEN 'dead_lettered' THEN 'dead_letter'
            WHEN 'snoozed' THEN 'released'
            WHEN 'reaped' THEN 'released'
            ELSE action
        END AS outcome,
        $17::smallint, ferryman.bucket(wait_ms) AS wait_bucket, ferryman.bucket(run_ms) AS run_bucket,
        count(*), sum(wait_ms), sum(run_ms)
    FROM settled
    GROUP BY queue_name, minute, tenant_id, type, outcome, wait_bucket, run_bucket
    ORDER BY queue_name, minute, tenant_id, type, outcome, wait_bucket, run_bucket
    ON CONFLICT (queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket) DO UPDATE
    SET jobs = s.jobs + EXCLUDED.jobs, wait_ms = s.wait_ms + EXCLUDED.wait_ms, run_ms = s.run_ms + EXCLUDED.run_ms
),
summed AS (
    INSERT INTO ferryman.queue_totals AS t (
        queue_name, tenant_id, shard, completions, failures, service_ms
    )
    SELECT
        queue_name, tenant_id, $17::smallint, count(*) FILTER (WHERE action = 'completed'),
        count(*) FILTER (WHERE action IN ('retried', 'dead_lettered')), sum(run_ms)
    FROM settled
    WHERE action IN ('completed', 'retried', 'dead_lettered')
    GROUP BY queue_name, tenant_id
    ORDER BY queue_name, tenant_id
    ON CONFLICT (queue_name, tenant_id, shard) DO UPDATE
    SET completions = t.completions + EXCLUDED.completions, failures = t.failures + EXCLUDED.failures,
        service_ms = t.service_ms + EXCLUDED.service_ms
)
SELECT
    s.id, s.queue_name, s.tenant_id, s.status, s.attempt, s.priority,
    NULL::uuid AS claim_token, 0::bigint AS lease_ms,
    floor(extract(epoch FROM s.ready_since) * 1000)::bigint AS ready_ms,
    greatest(0, ceil(extract(epoch FROM s.run_at - s.at) * 1000))::bigint AS due_in_ms,
    (SELECT settings ->> 'priorityAgingMs' FROM ferryman.queues WHERE name = s.queue_name) AS aging_ms
FROM settled AS s
