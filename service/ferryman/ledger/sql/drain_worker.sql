-- Asks worker $1 to drain, or takes it back ($2); it hears of it with its next beat. $3 milliseconds of silence
-- after which it is lost; $4..$9 who: kind, id, override, reason, correlation, trace. One row, the worker; what is
-- so already is left alone. No row: no such worker.
WITH locked AS MATERIALIZED (
    SELECT * FROM ferryman.workers WHERE id = $1::varchar FOR NO KEY UPDATE
),
changed AS (
    UPDATE ferryman.workers AS w
    SET drain_requested = $2::boolean
    FROM locked
    WHERE w.id = locked.id AND locked.drain_requested <> $2
    RETURNING w.id, w.pod
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, actor_kind, actor_id, action, override, override_reason, correlation_id, trace_id, details
    )
    SELECT clock_timestamp(), $4::varchar, $5::varchar,
        CASE WHEN $2 THEN 'worker_drain_requested' ELSE 'worker_drain_withdrawn' END,
        $6::boolean, $7::varchar, $8::varchar, $9::varchar, jsonb_build_object('worker', id, 'pod', pod)
    FROM changed
)
SELECT id, pod, queues, types, slots, busy, $2 AS drain_requested, started_at, beat_at,
    CASE WHEN beat_at < now() - $3::bigint * interval '1 millisecond' THEN 'lost' ELSE state END AS state
FROM locked
