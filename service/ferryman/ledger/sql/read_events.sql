-- Rows of the audit behind the mark ($2 xid, $3 id) up to the mark ($4, $5), in the order of the log: of these
-- tenants ($1), and of nobody's tenant when $7. None of a transaction that is not older than every one that runs,
-- so that nothing comes in before what was read. At most $6 rows. Each has the horizon and the ledger's clock; a
-- single row without id: nothing is there. What is older than three days is not read: `at` spares its partitions.
WITH horizon AS MATERIALIZED (
    SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid, clock_timestamp() AS at
)
SELECT horizon.xid::text AS horizon, horizon.at AS now, event.*
FROM horizon
LEFT JOIN LATERAL (
    SELECT xid::text AS xid, id, at, tenant_id, action, job_id, job_type, queue_name, from_status, to_status, attempt
    FROM (
        SELECT found.* FROM unnest($1::varchar[]) AS asked (tenant_id)
        CROSS JOIN LATERAL (
            SELECT * FROM ferryman.job_audit AS a
            WHERE a.tenant_id = asked.tenant_id
                AND a.xid >= $2::text::xid8 AND a.xid <= $4::text::xid8 AND a.xid < horizon.xid
                AND (a.xid, a.id) > ($2::text::xid8, $3::uuid) AND (a.xid, a.id) <= ($4::text::xid8, $5::uuid)
                AND a.at > now() - interval '3 days'
            ORDER BY a.xid
            FETCH FIRST ($6::int) ROWS WITH TIES
        ) AS found
        UNION ALL (
            SELECT * FROM ferryman.job_audit AS a
            WHERE $7::boolean AND a.tenant_id IS NULL
                AND a.xid >= $2::text::xid8 AND a.xid <= $4::text::xid8 AND a.xid < horizon.xid
                AND (a.xid, a.id) > ($2::text::xid8, $3::uuid) AND (a.xid, a.id) <= ($4::text::xid8, $5::uuid)
                AND a.at > now() - interval '3 days'
            ORDER BY a.xid
            FETCH FIRST ($6::int) ROWS WITH TIES
        )
    ) AS candidate
    ORDER BY candidate.xid, candidate.id
    LIMIT $6::int
) AS event ON true
ORDER BY event.xid::xid8, event.id
