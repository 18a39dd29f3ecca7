-- A whole job: $1 tenant (null: every), $2 user (null: every), $3 id. No row: the scope has no such job.
-- `kept` are the attempts that did not complete; `wait_ms` and `run_ms` tell of the latest one in whole
-- milliseconds, up to now while it runs.
SELECT job.id, job.tenant_id, job.user_id, job.type, job.queue_name AS queue,
    CASE
        WHEN job.status <> 'pending' OR job.run_at <= now() THEN job.status
        WHEN job.attempt = 0 THEN 'scheduled'
        ELSE 'retrying'
    END AS status,
    job.priority, job.input_data::text AS input, job.output_data::text AS output, job.error_class,
    job.error_message, job.error_details::text AS error_details, job.error_fingerprint AS fingerprint, job.attempt,
    job.retry_count, job.max_retries, job.retry_delay_ms, job.crashes, job.visibility_timeout_ms,
    job.timeout_ms, job.progress_percent, job.progress_note, job.tags, job.metadata::text AS metadata,
    job.unique_key, job.worker_id, job.cancel_requested, job.correlation_id, job.traceparent, job.created_at,
    job.updated_at, job.run_at, job.started_at, job.completed_at, job.expires_at,
    job.status AS stored_status, job.failed_attempts::text AS kept,
    greatest(0, floor(extract(epoch FROM job.started_at - job.run_at) * 1000))::bigint AS wait_ms,
    greatest(0, floor(extract(epoch FROM
        CASE WHEN job.status = 'running' THEN clock_timestamp() ELSE job.completed_at END - job.started_at
    ) * 1000))::bigint AS run_ms
FROM ferryman.jobs AS job
WHERE job.id = $3::uuid
    AND ($1::text IS NULL OR job.tenant_id = $1)
    AND ($2::int IS NULL OR job.user_id = $2)
