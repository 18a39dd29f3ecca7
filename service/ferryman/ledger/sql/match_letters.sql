-- What a redrive would move. $1 tenant (null: every), $2 user (null: every), $3 queue, $4 type, $5 error classes,
-- $6 fingerprint (null: any); $7 failed at least and $8 less than so many milliseconds ago; $9 redriven fewer times
-- than this (null: any); $10 how many to name. `matched` counts all that match; `ids` are the oldest of those that
-- can go: their queue is there and no unfinished job holds their unique key, so that these never block the rest.
WITH matching AS MATERIALIZED (
    SELECT id, original_job_id, queue_name FROM ferryman.dead_letter_jobs
    WHERE status = 'dead'
        AND ($1::text IS NULL OR tenant_id = $1)
        AND ($2::int IS NULL OR user_id = $2)
        AND ($3::text IS NULL OR queue_name = $3)
        AND ($4::text IS NULL OR job_type = $4)
        AND ($5::text[] IS NULL OR error_class = ANY($5))
        AND ($6::text IS NULL OR error_fingerprint = $6)
        AND ($7::bigint IS NULL OR failed_at <= now() - $7 * interval '1 millisecond')
        AND ($8::bigint IS NULL OR failed_at > now() - $8 * interval '1 millisecond')
        AND ($9::int IS NULL OR redrives < $9)
    ORDER BY id
),
movable AS (
    SELECT matching.id
    FROM matching
    CROSS JOIN LATERAL (
        SELECT tenant_id, type, unique_key FROM ferryman.jobs WHERE id = matching.original_job_id OFFSET 0
    ) AS j
    WHERE EXISTS (SELECT FROM ferryman.queues WHERE name = matching.queue_name)
        AND (j.unique_key IS NULL OR NOT EXISTS (
            SELECT FROM ferryman.jobs AS twin
            WHERE twin.tenant_id = j.tenant_id AND twin.type = j.type AND twin.unique_key = j.unique_key
                AND twin.status IN ('pending', 'running')
        ))
    LIMIT $10::int
)
SELECT (SELECT count(*) FROM matching) AS matched, ARRAY(SELECT id FROM movable ORDER BY id) AS ids
