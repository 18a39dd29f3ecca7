-- The attempts of job $2 of tenant $1 that were kept, and what its row says of its latest one: `wait_ms` and
-- `run_ms` in whole milliseconds, up to now while it runs.
SELECT failed_attempts::text AS kept, attempt, status, worker_id, started_at, completed_at,
    greatest(0, floor(extract(epoch FROM started_at - run_at) * 1000))::bigint AS wait_ms,
    greatest(0, floor(extract(epoch FROM
        CASE WHEN status = 'running' THEN clock_timestamp() ELSE completed_at END - started_at
    ) * 1000))::bigint AS run_ms
FROM ferryman.jobs
WHERE id = $2::uuid AND tenant_id = $1::text
