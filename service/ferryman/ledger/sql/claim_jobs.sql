-- pending > running. $1 ids, $2 tokens, $3 worker, $4 types, $5 queue. Whoever holds a row's lock is left alone,
-- and no row answers for a job that is not waiting, not due, past its expiry, of another type or queue, or in a
-- paused one.
-- Commits asynchronously: a claim that a crash undoes is fenced by its token.
WITH wanted AS MATERIALIZED (
    SELECT w.id, w.token, set_config('synchronous_commit', 'off', true) AS quick
    FROM unnest($1::uuid[], $2::uuid[]) AS w(id, token)
),
claimable AS MATERIALIZED (
    SELECT j.id, w.token, clock_timestamp() AS at
    FROM wanted AS w
    CROSS JOIN LATERAL (
        SELECT id, status, type, queue_name, run_at, expires_at FROM ferryman.jobs
        WHERE id = w.id FOR UPDATE SKIP LOCKED OFFSET 0
    ) AS j
    WHERE j.status = 'pending'
        AND j.run_at <= now() + interval '1 second'
        AND (j.expires_at IS NULL OR j.expires_at > now())
        AND j.type = ANY($4::varchar[])
        AND j.queue_name = $5::varchar
        AND (j.queue_name IN (SELECT name FROM ferryman.queues WHERE paused)) IS NOT TRUE
),
claimed AS (
    UPDATE ferryman.jobs AS j
    SET status = 'running', attempt = j.attempt + 1, claim_token = c.token, worker_id = $3::varchar,
        started_at = c.at, updated_at = c.at, isolated = false, progress_percent = NULL, progress_note = NULL,
        lease_until = c.at + j.visibility_timeout_ms * interval '3 milliseconds'
    FROM claimable AS c
    WHERE j.id = c.id
    RETURNING
        j.*, greatest(0, floor(extract(epoch FROM j.started_at - j.run_at) * 1000))::bigint AS wait_ms
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, from_status, to_status,
        attempt, correlation_id, trace_id, details
    )
    SELECT
        started_at, tenant_id, 'worker', $3::varchar, 'claimed', id, type, queue_name, 'pending', 'running',
        attempt, correlation_id, substr(traceparent, 4, 32),
        jsonb_build_object('token', claim_token, 'worker', worker_id, 'waitMs', wait_ms)
    FROM claimed
)
SELECT
    id, claim_token, attempt, tenant_id, user_id, type, queue_name, priority, input_data, retry_count, crashes,
    max_retries, max_retries_given, retry_delay_ms, retry_delay_given, visibility_timeout_ms, timeout_ms, tags,
    metadata, cursor, correlation_id, traceparent, unique_key, created_at, started_at, wait_ms
FROM claimed
