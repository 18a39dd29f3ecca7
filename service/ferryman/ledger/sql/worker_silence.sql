-- For how many milliseconds worker $1 has been silent while it could have been heard: a server that has only just
-- started heard nobody. No row: no such worker.
SELECT floor(extract(epoch FROM least(now() - beat_at, now() - pg_postmaster_start_time())) * 1000)::bigint
    AS silent_ms
FROM ferryman.workers
WHERE id = $1
