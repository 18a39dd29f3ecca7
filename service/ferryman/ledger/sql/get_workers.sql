-- Every worker by id. $1 milliseconds of silence after which one is lost.
SELECT id, pod, queues, types, slots, busy, drain_requested, started_at, beat_at,
    CASE WHEN beat_at < now() - $1::bigint * interval '1 millisecond' THEN 'lost' ELSE state END AS state
FROM ferryman.workers
ORDER BY id
