-- What tenants' endpoints have not heard of yet: at most $1 audit rows of each tenant, of $2 tenants that have any,
-- the one furthest behind first. Rows come in the order of their transactions, below the oldest that still runs:
-- beneath it nothing more can appear. One row for each endpoint that wants an audit row, and for an audit row
-- that none wants one with nulls for all but its place.
WITH listening AS MATERIALIZED (
    SELECT DISTINCT ON (tenant_id) tenant_id, pg_snapshot_xmin(since) AS first_xid
    FROM ferryman.webhooks WHERE enabled
    ORDER BY tenant_id, pg_snapshot_xmin(since)
),
behind AS MATERIALIZED (
    SELECT l.tenant_id, l.first_xid, c.xid, c.audit_id
    FROM listening AS l
    JOIN ferryman.webhook_cursors AS c ON c.tenant_id = l.tenant_id
    WHERE EXISTS (
        SELECT FROM ferryman.job_audit AS a
        WHERE a.tenant_id = l.tenant_id AND a.xid >= l.first_xid AND (a.xid, a.id) > (c.xid, c.audit_id)
            AND a.xid < pg_snapshot_xmin(pg_current_snapshot())
    )
    ORDER BY greatest(c.xid, l.first_xid)
    LIMIT $2::integer
),
news AS MATERIALIZED (
    SELECT b.xid AS old_xid, b.audit_id AS old_id, a.*
    FROM behind AS b
    CROSS JOIN LATERAL (
        SELECT
            xid, id, tenant_id, at, action, job_id, job_type, queue_name, from_status, to_status, attempt,
            correlation_id, trace_id, details
        FROM ferryman.job_audit
        WHERE tenant_id = b.tenant_id AND xid >= b.first_xid AND (xid, id) > (b.xid, b.audit_id)
            AND xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY xid, id
        LIMIT $1::integer
    ) AS a
)
SELECT
    n.tenant_id, n.old_xid::text AS old_xid, n.old_id, n.xid::text AS xid, n.id AS audit_id, w.id AS webhook_id,
    CASE WHEN w.id IS NOT NULL THEN ferryman.rfc3339(n.at) END AS at,
    n.action, n.job_id, n.job_type, n.queue_name, n.from_status, n.to_status, n.attempt, n.correlation_id,
    n.trace_id, CASE WHEN w.id IS NOT NULL THEN n.details::text END AS details,
    j.user_id, j.priority, j.tags, j.metadata::text AS metadata, ferryman.rfc3339(j.created_at) AS created_at,
    j.traceparent
FROM news AS n
LEFT JOIN LATERAL (
    SELECT id FROM ferryman.webhooks
    WHERE tenant_id = n.tenant_id AND enabled
        AND n.job_id IS NOT NULL AND left(n.queue_name, 7) <> 'system.'
        AND NOT pg_visible_in_snapshot(n.xid, since)
        AND (events = '{}' OR 'job.' || n.action = ANY (events))
        AND (queues = '{}' OR n.queue_name = ANY (queues))
        AND (types = '{}' OR n.job_type = ANY (types))
) AS w ON true
LEFT JOIN ferryman.jobs AS j ON w.id IS NOT NULL AND j.id = n.job_id
ORDER BY n.tenant_id, n.xid, n.id, w.id
