-- Audit rows of job $3, oldest first, $5 at most, after the row $4 (null: from the start). $1 tenant (null:
-- every); a user ($2) sees those of a job that is there and the user's own. Older days' partitions are skipped.
WITH job AS MATERIALIZED (
    SELECT created_at FROM ferryman.jobs
    WHERE id = $3::uuid AND ($1::text IS NULL OR tenant_id = $1) AND ($2::int IS NULL OR user_id = $2)
), seen AS MATERIALIZED (
    SELECT at, id FROM ferryman.job_audit
    WHERE job_id = $3 AND id = $4::uuid AND ($1 IS NULL OR tenant_id = $1)
)
SELECT id, at, tenant_id, actor_kind, actor_id, action, job_id, queue_name, from_status, to_status, attempt,
    override, override_reason, correlation_id, trace_id, details::text AS details
FROM ferryman.job_audit
WHERE job_id = $3
    AND ($1 IS NULL OR tenant_id = $1)
    AND ($2 IS NULL OR EXISTS (SELECT FROM job))
    AND at >= coalesce((SELECT created_at FROM job), '-infinity')
    AND CASE
        WHEN $4 IS NULL THEN true
        WHEN EXISTS (SELECT FROM seen) THEN (at, id) > (SELECT seen.at, seen.id FROM seen)
        ELSE id > $4
    END
ORDER BY at, id
LIMIT $5::int
