-- Jobs $2 of tenant $1 as lists show them, without their documents. An id without a row is left out.
SELECT job.id, job.tenant_id, job.user_id, job.type, job.queue_name AS queue,
    CASE
        WHEN job.status <> 'pending' OR job.run_at <= now() THEN job.status
        WHEN job.attempt = 0 THEN 'scheduled'
        ELSE 'retrying'
    END AS status,
    job.priority, 'null' AS input, NULL::text AS output, job.error_class, left(job.error_message, 1000) AS error_message,
    NULL::text AS error_details, job.error_fingerprint AS fingerprint, job.attempt, job.retry_count, job.max_retries,
    job.retry_delay_ms, job.crashes, job.visibility_timeout_ms, job.timeout_ms, job.progress_percent,
    job.progress_note, job.tags, '{}' AS metadata, job.unique_key, job.worker_id, job.cancel_requested,
    job.correlation_id, job.traceparent, job.created_at, job.updated_at, job.run_at, job.started_at,
    job.completed_at, job.expires_at
FROM ferryman.jobs AS job
WHERE job.id = ANY($2::uuid[]) AND job.tenant_id = $1::text
