-- A retrying job is due now. $1 tenant (null: every), $2 user (null: every), $3 job; $4..$9 who: kind, id,
-- override, reason, correlation, trace. One row: whether it was `hurried`, where it belongs now and its status.
-- No row: the scope has no such job. Nothing of it is counted in the statistics.
WITH locked AS MATERIALIZED (
    SELECT id, queue_name, tenant_id, status, attempt, priority, claim_token, run_at FROM ferryman.jobs
    WHERE id = $3::uuid AND ($1::text IS NULL OR tenant_id = $1) AND ($2::int IS NULL OR user_id = $2)
    FOR UPDATE
),
judged AS MATERIALIZED (
    SELECT timed.*, status = 'pending' AND attempt > 0 AND run_at > at AS hurried,
        ceil(extract(epoch FROM run_at - at) * 1000)::bigint AS ahead_ms
    FROM (SELECT locked.*, clock_timestamp() AS at FROM locked) AS timed -- the instant after the lock
),
changed AS (
    UPDATE ferryman.jobs AS j
    SET run_at = judged.at, ready_since = judged.at, updated_at = judged.at
    FROM judged
    WHERE j.id = judged.id AND judged.hurried
    RETURNING j.id, j.tenant_id, j.type, j.queue_name, j.attempt, judged.at, judged.ahead_ms
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, from_status, to_status, attempt,
        override, override_reason, correlation_id, trace_id, details
    )
    SELECT at, tenant_id, $4::varchar, $5::varchar, 'hurried', id, type, queue_name, 'pending', 'pending', attempt,
        $6::boolean, $7::varchar, $8::varchar, $9::varchar, jsonb_build_object('aheadMs', ahead_ms)
    FROM changed
)
SELECT hurried, id, queue_name, tenant_id, status, attempt, priority, claim_token,
    floor(extract(epoch FROM at) * 1000)::bigint AS ready_ms, 0::bigint AS due_in_ms, 0::bigint AS lease_ms,
    (SELECT settings ->> 'priorityAgingMs' FROM ferryman.queues WHERE name = judged.queue_name) AS aging_ms
FROM judged
