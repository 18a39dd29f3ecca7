-- What was counted from minute $2 to minute $3 (exclusive), of one tenant or of all ($1 null), of queue $4 and
-- type $5 (null: any), by outcome and histogram buckets; and the ledger's clock, in one row even without any.
WITH counted AS (
    SELECT outcome, wait_bucket, run_bucket, sum(jobs)::bigint AS jobs
    FROM (
        (
            SELECT outcome, wait_bucket, run_bucket, jobs, queue_name, type FROM ferryman.job_stats
            WHERE tenant_id = $1::text AND minute >= $2::timestamptz AND minute < $3::timestamptz
        ) UNION ALL (
            SELECT outcome, wait_bucket, run_bucket, jobs, queue_name, type FROM ferryman.job_stats
            WHERE $1 IS NULL AND minute >= $2 AND minute < $3
        )
    ) AS s
    WHERE ($4::text IS NULL OR queue_name = $4) AND ($5::text IS NULL OR type = $5)
    GROUP BY outcome, wait_bucket, run_bucket
)
SELECT now() AS now, counted.* FROM (VALUES (1)) AS always LEFT JOIN counted ON true
