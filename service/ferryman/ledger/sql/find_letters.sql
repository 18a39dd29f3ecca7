-- A page of dead letters, newest first: $1 tenant (null: every), $2 user (null: every), strictly older than $3 by
-- id. $4 status, $5 queue, $6 type, $7 error classes, $8 fingerprint (null: any); $9 failed at least and $10 less
-- than so many milliseconds ago. At most $11 rows, and none once the documents before it passed $12 bytes; `found`
-- counts up to one row more. A branch for each status, in the order of its index; what is not asked for ends at
-- its first condition.
WITH page AS MATERIALIZED (
    SELECT letter.*
    FROM (
        (
            SELECT * FROM ferryman.dead_letter_jobs
            WHERE ($4::text IS NULL OR $4 = 'dead') AND tenant_id = $1::text AND status = 'dead'
                AND (status, id) < ('dead', $3::uuid)
            ORDER BY id DESC
        ) UNION ALL (
            SELECT * FROM ferryman.dead_letter_jobs
            WHERE ($4 IS NULL OR $4 = 'requeued') AND tenant_id = $1 AND status = 'requeued'
                AND (status, id) < ('requeued', $3)
            ORDER BY id DESC
        ) UNION ALL (
            SELECT * FROM ferryman.dead_letter_jobs
            WHERE ($4 IS NULL OR $4 = 'discarded') AND tenant_id = $1 AND status = 'discarded'
                AND (status, id) < ('discarded', $3)
            ORDER BY id DESC
        ) UNION ALL (
            SELECT * FROM ferryman.dead_letter_jobs
            WHERE $1 IS NULL AND ($4 IS NULL OR status = $4) AND id < $3
            ORDER BY id DESC
        )
    ) AS letter
    WHERE ($2::int IS NULL OR letter.user_id = $2)
        AND ($5::text IS NULL OR letter.queue_name = $5)
        AND ($6::text IS NULL OR letter.job_type = $6)
        AND ($7::text[] IS NULL OR letter.error_class = ANY($7))
        AND ($8::text IS NULL OR letter.error_fingerprint = $8)
        AND ($9::bigint IS NULL OR letter.failed_at <= now() - $9 * interval '1 millisecond')
        AND ($10::bigint IS NULL OR letter.failed_at > now() - $10 * interval '1 millisecond')
    ORDER BY letter.id DESC
    LIMIT $11::int + 1
),
written AS MATERIALIZED (
    SELECT id, original_job_id, tenant_id, user_id, job_type AS type, queue_name AS queue, status, reason,
        error_class AS failure_class, error_message AS message, error_details::text AS details,
        error_fingerprint AS fingerprint, attempts::text AS attempts, retry_count, max_retries, redrives,
        input_data::text AS input, tags, metadata::text AS metadata, worker_id, failed_at, original_created_at
    FROM page
),
measured AS (
    SELECT written.*,
        count(*) OVER () AS found,
        row_number() OVER (ORDER BY id DESC) AS number,
        sum(octet_length(input) + octet_length(details) + octet_length(attempts))
            OVER (ORDER BY id DESC ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) AS bytes_before
    FROM written
)
SELECT * FROM measured
WHERE number <= $11 AND coalesce(bytes_before, 0) <= $12::bigint
ORDER BY id DESC
