-- Workers that have been silent for too long. $1 milliseconds of silence, $2 limit. Not before the server has
-- been up for as long: while it was away, nobody could beat.
SELECT id FROM ferryman.workers
WHERE beat_at < now() - $1::bigint * interval '1 millisecond'
    AND pg_postmaster_start_time() < now() - $1::bigint * interval '1 millisecond'
ORDER BY beat_at
LIMIT $2
