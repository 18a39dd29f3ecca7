-- The attempts of these workers, if they are still silent. $1 workers, $2 milliseconds of silence, $3 limit.
-- Locks nothing.
WITH lost AS MATERIALIZED (
    SELECT id FROM ferryman.workers
    WHERE id = ANY($1::varchar[]) AND beat_at < now() - $2::bigint * interval '1 millisecond'
)
SELECT
    id, claim_token, attempt, isolated, crashes, cancel_requested, max_retries, lease_until,
    greatest(0, floor(extract(epoch FROM started_at - run_at) * 1000))::bigint AS wait_ms,
    greatest(0, floor(extract(epoch FROM now() - started_at) * 1000))::bigint AS run_ms
FROM ferryman.jobs
WHERE status = 'running' AND (worker_id IN (SELECT id FROM lost)) IS TRUE
ORDER BY lease_until
LIMIT $3
