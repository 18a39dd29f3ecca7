-- The dead letters with the ids $3, oldest first; $1 tenant (null: every), $2 user (null: every).
SELECT id, original_job_id, tenant_id, user_id, job_type AS type, queue_name AS queue, status, reason,
    error_class AS failure_class, error_message AS message, error_details::text AS details,
    error_fingerprint AS fingerprint, attempts::text AS attempts, retry_count, max_retries, redrives,
    input_data::text AS input, tags, metadata::text AS metadata, worker_id, failed_at, original_created_at
FROM ferryman.dead_letter_jobs
WHERE id = ANY($3::uuid[])
    AND ($1::text IS NULL OR tenant_id = $1)
    AND ($2::int IS NULL OR user_id = $2)
ORDER BY id
