-- Takes up to $1 jobs that ferryman.enqueue has stored and nobody has pushed: for $2 milliseconds nobody else takes
-- them, then anybody may again. Their ids.
WITH open AS MATERIALIZED (
    SELECT job_id FROM ferryman.arrivals
    WHERE taken_until < clock_timestamp()
    ORDER BY job_id
    LIMIT $1::int
    FOR UPDATE SKIP LOCKED
)
UPDATE ferryman.arrivals AS a
SET taken_until = clock_timestamp() + $2::bigint * interval '1 millisecond'
FROM open
WHERE a.job_id = open.job_id
RETURNING a.job_id
