-- Deletes at most $3 rows of the statistics of queue $1 whose minute lies before $2. One row: how many.
WITH doomed AS MATERIALIZED (
    SELECT ctid FROM ferryman.job_stats
    WHERE queue_name = $1::varchar AND minute < $2::timestamptz
    LIMIT $3::int
    FOR UPDATE SKIP LOCKED
),
deleted AS (
    DELETE FROM ferryman.job_stats WHERE ctid IN (SELECT ctid FROM doomed) RETURNING 1
)
SELECT count(*) AS rows FROM deleted
