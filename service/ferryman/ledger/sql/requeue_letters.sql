-- dead_letter > pending, for every given letter that is dead. $1 tenant (null: every), $2 user (null: every),
-- $3 letters, $4 true: the retry budget starts anew, $5 milliseconds between the starts of two jobs;
-- $6..$11 who: kind, id, override, reason, correlation, trace; $12 shard. One row for each distinct letter in the
-- scope: `result`, and for a requeued one where its job belongs. An expiry that has passed is lifted: who
-- requeues a job wants it run. A unique violation means that a twin was submitted meanwhile: run it again.
WITH named AS MATERIALIZED (
    SELECT given.id AS letter_id, letter.original_job_id AS job_id
    FROM (SELECT DISTINCT id FROM unnest($3::uuid[]) AS g(id)) AS given
    CROSS JOIN LATERAL (
        SELECT original_job_id FROM ferryman.dead_letter_jobs
        WHERE id = given.id AND ($1::text IS NULL OR tenant_id = $1) AND ($2::int IS NULL OR user_id = $2)
        OFFSET 0
    ) AS letter
    ORDER BY job_id, letter_id
),
-- Jobs before letters, each in the order of ids, as everywhere.
jobs AS MATERIALIZED (
    SELECT named.letter_id, j.*
    FROM named
    LEFT JOIN LATERAL ( -- the job of a closed letter may have been pruned
        SELECT id, tenant_id, type, queue_name, status, unique_key FROM ferryman.jobs
        WHERE id = named.job_id
        FOR UPDATE OFFSET 0
    ) AS j ON true
),
letters AS MATERIALIZED (
    SELECT jobs.*, (letter.status = 'dead' AND jobs.status = 'dead_letter') IS TRUE AS is_dead
    FROM jobs
    CROSS JOIN LATERAL (
        SELECT status FROM ferryman.dead_letter_jobs WHERE id = jobs.letter_id FOR UPDATE OFFSET 0
    ) AS letter
),
-- Held until the end, so that no queue is deleted under its new job.
queues AS MATERIALIZED (
    SELECT q.*
    FROM (SELECT DISTINCT queue_name FROM letters WHERE is_dead ORDER BY 1) AS wanted
    CROSS JOIN LATERAL (
        SELECT name, settings ->> 'priorityAgingMs' AS aging_ms FROM ferryman.queues
        WHERE name = wanted.queue_name
        FOR KEY SHARE OFFSET 0
    ) AS q
),
judged AS MATERIALIZED (
    SELECT letters.*, clock_timestamp() AS at,
        CASE
            WHEN NOT is_dead THEN 'not_dead'
            WHEN NOT EXISTS (SELECT FROM queues WHERE name = letters.queue_name) THEN 'unknown_queue'
            WHEN unique_key IS NOT NULL AND (
                EXISTS (
                    SELECT FROM ferryman.jobs AS twin
                    WHERE twin.tenant_id = letters.tenant_id AND twin.type = letters.type
                        AND twin.unique_key = letters.unique_key AND twin.status IN ('pending', 'running')
                )
                OR row_number() OVER (PARTITION BY tenant_id, type, unique_key, is_dead ORDER BY letter_id) > 1
            ) THEN 'twin_unfinished'
            ELSE 'requeued'
        END AS result
    FROM letters
),
placed AS MATERIALIZED (
    SELECT judged.*,
        at + (row_number() OVER (ORDER BY letter_id) - 1) * ($5::float8 * interval '1 millisecond') AS run_at
    FROM judged
    WHERE result = 'requeued'
    ORDER BY id
),
requeued AS (
    UPDATE ferryman.jobs AS j
    SET status = 'pending',
        retry_count = CASE WHEN $4::boolean THEN 0 ELSE j.retry_count END,
        crashes = CASE WHEN $4 THEN 0 ELSE j.crashes END,
        cancel_requested = false,
        run_at = placed.run_at,
        ready_since = placed.run_at,
        expires_at = CASE WHEN j.expires_at > placed.run_at THEN j.expires_at END,
        started_at = NULL,
        completed_at = NULL,
        worker_id = NULL,
        claim_token = NULL, -- constraints are checked before PostgreSQL notices that j has moved on meanwhile
        lease_until = NULL,
        progress_percent = NULL,
        progress_note = NULL,
        updated_at = placed.at
    FROM placed
    WHERE j.id = placed.id
    RETURNING j.id, j.tenant_id, j.type, j.queue_name, j.status, j.attempt, j.priority, j.run_at, placed.at,
        placed.letter_id
),
closed AS (
    UPDATE ferryman.dead_letter_jobs AS letter
    SET status = 'requeued', closed_at = placed.at
    FROM placed
    WHERE letter.id = placed.letter_id
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, from_status, to_status, attempt,
        override, override_reason, correlation_id, trace_id, details
    )
    SELECT at, tenant_id, $6::varchar, $7::varchar, 'requeued', id, type, queue_name, 'dead_letter', 'pending', attempt,
        $8::boolean, $9::varchar, $10::varchar, $11::varchar,
        jsonb_build_object('deadLetterId', letter_id, 'resetRetries', $4,
            'delayMs', ceil(extract(epoch FROM run_at - at) * 1000)::bigint)
    FROM requeued
),
counted AS (
    INSERT INTO ferryman.job_stats AS s (
        queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket, jobs
    )
    SELECT queue_name, date_trunc('minute', at), tenant_id, type, 'requeued', $12::smallint, 0, 0, count(*)
    FROM requeued
    GROUP BY queue_name, date_trunc('minute', at), tenant_id, type
    ORDER BY queue_name, date_trunc('minute', at), tenant_id, type
    ON CONFLICT (queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket)
    DO UPDATE SET jobs = s.jobs + EXCLUDED.jobs
)
SELECT judged.letter_id, judged.result, judged.queue_name, judged.tenant_id, judged.id, r.status, r.attempt,
    r.priority, NULL::uuid AS claim_token, 0::bigint AS lease_ms,
    floor(extract(epoch FROM r.run_at) * 1000)::bigint AS ready_ms,
    greatest(0, ceil(extract(epoch FROM r.run_at - r.at) * 1000))::bigint AS due_in_ms,
    (SELECT aging_ms FROM queues WHERE name = judged.queue_name) AS aging_ms
FROM judged
LEFT JOIN requeued AS r ON r.id = judged.id AND judged.result = 'requeued'
ORDER BY judged.letter_id
