-- Why rows were not inserted. $1 ids, $2 tenants, $3 types, $4 unique keys or null, $5 queues, of equal length.
-- One row for each, in order: the row of that id, or else the unfinished job of that unique key, or else nulls.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::varchar[], $3::varchar[], $4::varchar[], $5::varchar[])
    WITH ORDINALITY AS g(wanted, tenant_id, type, unique_key, queue_name, place)
)
SELECT
    j.id, j.queue_name, j.tenant_id, j.user_id, j.priority, j.run_at, j.created_at,
    g.wanted <> j.id AS duplicate,
    EXISTS (SELECT FROM ferryman.queues WHERE name = g.queue_name) AS queue_known,
    CASE
        WHEN j.status <> 'pending' OR j.run_at <= now() THEN j.status
        WHEN j.attempt > 0 THEN 'retrying'
        ELSE 'scheduled'
    END AS status,
    floor(extract(epoch FROM j.ready_since) * 1000)::bigint AS ready_ms,
    greatest(0, ceil(extract(epoch FROM j.run_at - now()) * 1000))::bigint AS due_in_ms
FROM given AS g
LEFT JOIN LATERAL (
    SELECT * FROM (SELECT * FROM ferryman.jobs WHERE id = g.wanted OFFSET 0) AS own
    WHERE own.tenant_id = g.tenant_id
    UNION ALL
    (
        SELECT * FROM ferryman.jobs
        WHERE tenant_id = g.tenant_id AND type = g.type AND unique_key = g.unique_key
            AND status IN ('pending', 'running')
        OFFSET 0
    )
    LIMIT 1
) AS j ON true
ORDER BY g.place
