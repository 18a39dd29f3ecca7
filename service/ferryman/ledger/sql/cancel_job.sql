-- pending > cancelled, or asks a running job to stop. $1 tenant (null: every), $2 user (null: every), $3 job;
-- $4..$9 who: kind, id, override, reason, correlation, trace; $10 shard. One row: `result`, and where the job
-- belongs now. No row: the scope has no such job. Asking again changes nothing.
WITH locked AS MATERIALIZED (
    SELECT id, queue_name, tenant_id, status, attempt, priority, claim_token, lease_until, cancel_requested
    FROM ferryman.jobs
    WHERE id = $3::uuid AND ($1::text IS NULL OR tenant_id = $1) AND ($2::int IS NULL OR user_id = $2)
    FOR UPDATE
),
judged AS MATERIALIZED (
    SELECT locked.*, status AS before, clock_timestamp() AS at, -- the instant after the lock
        CASE status WHEN 'pending' THEN 'cancelled' WHEN 'running' THEN 'requested' ELSE 'already_final' END AS result,
        status = 'pending' OR (status = 'running' AND NOT cancel_requested) AS changes
    FROM locked
),
changed AS (
    UPDATE ferryman.jobs AS j
    SET status = CASE judged.before WHEN 'pending' THEN 'cancelled' ELSE j.status END,
        -- Named as well, for constraints are checked before PostgreSQL notices that j has moved on meanwhile.
        claim_token = CASE judged.before WHEN 'pending' THEN NULL ELSE j.claim_token END,
        completed_at = CASE judged.before WHEN 'pending' THEN judged.at ELSE j.completed_at END,
        cancel_requested = true,
        updated_at = judged.at
    FROM judged
    WHERE j.id = judged.id AND judged.changes
    RETURNING j.id, j.tenant_id, j.type, j.queue_name, j.attempt, judged.before, j.status, judged.at
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, from_status, to_status, attempt,
        override, override_reason, correlation_id, trace_id
    )
    SELECT at, tenant_id, $4::varchar, $5::varchar,
        CASE before WHEN 'pending' THEN 'cancelled' ELSE 'cancel_requested' END,
        id, type, queue_name, before, status, attempt, $6::boolean, $7::varchar, $8::varchar, $9::varchar
    FROM changed
),
counted AS (
    INSERT INTO ferryman.job_stats AS s (
        queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket, jobs
    )
    SELECT queue_name, date_trunc('minute', at), tenant_id, type, 'cancelled', $10::smallint, 0, 0, 1
    FROM changed WHERE before = 'pending'
    ON CONFLICT (queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket)
    DO UPDATE SET jobs = s.jobs + EXCLUDED.jobs
)
SELECT result, id, queue_name, tenant_id, attempt, priority, claim_token,
    CASE result WHEN 'cancelled' THEN 'cancelled' ELSE before END AS status,
    0::bigint AS ready_ms, 0::bigint AS due_in_ms, NULL::text AS aging_ms,
    greatest(0, ceil(extract(epoch FROM lease_until - at) * 1000))::bigint AS lease_ms
FROM judged
