-- Forgets worker $1, which has been silent for $2 milliseconds and holds nothing any more. $3 how many leases were
-- ended; $4..$9 who: kind, id, override, reason, correlation, trace. One row; none when it was heard of, or is gone.
WITH gone AS (
    DELETE FROM ferryman.workers
    WHERE id = $1::varchar AND beat_at < now() - $2::bigint * interval '1 millisecond'
    RETURNING id, pod
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, actor_kind, actor_id, action, override, override_reason, correlation_id, trace_id, details
    )
    SELECT clock_timestamp(), $4::varchar, $5::varchar, 'worker_gone',
        $6::boolean, $7::varchar, $8::varchar, $9::varchar,
        jsonb_build_object('worker', id, 'pod', pod, 'leasesEnded', $3::integer)
    FROM gone
)
SELECT id FROM gone
