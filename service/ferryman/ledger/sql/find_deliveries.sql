-- The deliveries to endpoint $1, the newest event first, before id $2; $3 at most.
SELECT
    id, metadata ->> 'event' AS event, metadata ->> 'eventId' AS event_id, metadata ->> 'jobId' AS job_id,
    CASE
        WHEN status <> 'pending' OR run_at <= now() THEN status
        WHEN attempt = 0 THEN 'scheduled'
        ELSE 'retrying'
    END AS status,
    attempt AS attempts,
    coalesce(
        output_data -> 'responseCode', error_details -> 'given' -> 'responseCode'
    )::integer AS response_code,
    error_message AS error, created_at, updated_at, run_at
FROM ferryman.jobs
WHERE queue_name = 'system.webhooks' AND metadata ->> 'webhookId' = $1::text AND id < $2::uuid
ORDER BY id DESC
LIMIT $3::integer
