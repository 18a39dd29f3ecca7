-- A page of jobs, newest first: $1 tenant (null: every), $2 user (null: every), strictly older than $3 and from
-- $4 on, by id. $5 visible statuses, $6 types, $7 queues, $8 users (null: any), $9 tags that must all be there,
-- $10/$11 metadata keys and the text of their values, $12/$13 created from (inclusive) and until (exclusive).
-- At most $14 rows, and none once the documents before it passed $15 bytes; `found` counts up to one row more.
-- $16 true: $5 names open statuses alone, which have an index of their own.
-- One branch runs, in the order of its own index: the others end at their first condition, whatever the
-- statistics say. The row comparisons fit no other index, so that none walks through others' rows.
WITH page AS MATERIALIZED (
    SELECT job.*, seen.status AS visible_status
    FROM (
        (
            SELECT * FROM ferryman.jobs
            WHERE $2::int IS NOT NULL AND tenant_id = $1::text AND user_id = $2
                AND (user_id, id) < ($2, $3::uuid) AND (user_id, id) >= ($2, $4::uuid)
            ORDER BY id DESC
        ) UNION ALL (
            SELECT * FROM ferryman.jobs
            WHERE $2::int IS NULL AND $16::boolean AND tenant_id = $1::text
                AND status IN ('pending', 'running', 'dead_letter')
                AND (tenant_id, id) < ($1, $3::uuid) AND (tenant_id, id) >= ($1, $4::uuid)
            ORDER BY id DESC
        ) UNION ALL (
            SELECT * FROM ferryman.jobs
            WHERE $2::int IS NULL AND NOT $16 AND tenant_id = $1::text
                AND (tenant_id, id) < ($1, $3::uuid) AND (tenant_id, id) >= ($1, $4::uuid)
            ORDER BY id DESC
        ) UNION ALL (
            SELECT * FROM ferryman.jobs
            WHERE $1 IS NULL AND ($2::int IS NULL OR user_id = $2) AND id < $3 AND id >= $4
            ORDER BY id DESC
        )
    ) AS job
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN job.status <> 'pending' OR job.run_at <= now() THEN job.status
            WHEN job.attempt = 0 THEN 'scheduled'
            ELSE 'retrying'
        END AS status
    ) AS seen
    WHERE ($5::text[] IS NULL OR seen.status = ANY($5))
        AND ($6::text[] IS NULL OR job.type = ANY($6))
        AND ($7::text[] IS NULL OR job.queue_name = ANY($7))
        AND ($8::int[] IS NULL OR job.user_id = ANY($8))
        AND job.tags @> $9::text[]
        AND ($12::timestamptz IS NULL OR job.created_at >= $12)
        AND ($13::timestamptz IS NULL OR job.created_at < $13)
        AND (cardinality($10::text[]) = 0 OR NOT EXISTS (
            SELECT FROM unnest($10::text[], $11::text[]) AS wanted (key, value)
            WHERE job.metadata ->> wanted.key IS DISTINCT FROM wanted.value
        ))
    ORDER BY job.id DESC
    LIMIT $14::int + 1
), written AS MATERIALIZED (
    SELECT id, tenant_id, user_id, type, queue_name AS queue, visible_status AS status, priority,
        input_data::text AS input, output_data::text AS output, error_class, error_message,
        error_details::text AS error_details, error_fingerprint AS fingerprint, attempt, retry_count, max_retries,
        retry_delay_ms, crashes, visibility_timeout_ms, timeout_ms, progress_percent, progress_note, tags,
        metadata::text AS metadata, unique_key, worker_id, cancel_requested, correlation_id, traceparent,
        created_at, updated_at, run_at, started_at, completed_at, expires_at
    FROM page
), measured AS (
    SELECT written.*,
        count(*) OVER () AS found,
        row_number() OVER (ORDER BY id DESC) AS number,
        sum(octet_length(input) + coalesce(octet_length(output), 0))
            OVER (ORDER BY id DESC ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) AS bytes_before
    FROM written
)
SELECT * FROM measured
WHERE number <= $14 AND coalesce(bytes_before, 0) <= $15::bigint
ORDER BY id DESC
