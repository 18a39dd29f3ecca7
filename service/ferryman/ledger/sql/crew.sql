-- The live workers of queue $1, and those of them that know type $2. $3 a worker that was silent for so many
-- milliseconds is gone. One row.
WITH present AS MATERIALIZED (
    SELECT types, slots, greatest(0, slots - busy) AS free, $2::varchar = ANY(types) AS knows,
        state = 'running' AND NOT drain_requested AS claims
    FROM ferryman.workers
    WHERE $1::varchar = ANY(queues) AND beat_at > now() - $3::bigint * interval '1 millisecond'
)
SELECT now() AS now, count(*) AS workers, coalesce(sum(slots), 0) AS slots,
    count(*) FILTER (WHERE knows) AS knowing, count(*) FILTER (WHERE knows AND claims) AS claiming,
    coalesce(sum(free) FILTER (WHERE knows AND claims), 0) AS free,
    ARRAY(SELECT DISTINCT known FROM present CROSS JOIN LATERAL unnest(types) AS known ORDER BY known LIMIT 100)
        AS types
FROM present
