-- A page of the audit of tenant $1, newest transaction first, $8 rows at most, after the row ($9 xid, $10 id; both
-- null: from the newest). $2 actor's id, $3 action, $4 job, $5 queue, $6 from (inclusive), $7 until (exclusive);
-- null: any. One branch runs: a job's few rows are sorted; a tenant's come in the order of their index, the last
-- transaction whole, so that nothing is sorted but the page.
SELECT id, xid::text AS xid, at, tenant_id, actor_kind, actor_id, action, job_id, queue_name, from_status, to_status,
    attempt, override, override_reason, correlation_id, trace_id, details::text AS details
FROM (
    (
        SELECT * FROM ferryman.job_audit
        WHERE $4::uuid IS NOT NULL AND job_id = $4 AND tenant_id = $1::varchar
            AND at >= coalesce($6::timestamptz, '-infinity') AND at < coalesce($7::timestamptz, 'infinity')
            AND ($2::varchar IS NULL OR actor_id = $2)
            AND ($3::varchar IS NULL OR action = $3)
            AND ($5::varchar IS NULL OR queue_name = $5)
            AND ($9::text IS NULL OR (xid, id) < ($9::text::xid8, $10::uuid))
    ) UNION ALL (
        SELECT * FROM ferryman.job_audit
        WHERE $4 IS NULL AND tenant_id = $1
            AND at >= coalesce($6, '-infinity') AND at < coalesce($7, 'infinity')
            AND ($2 IS NULL OR actor_id = $2)
            AND ($3 IS NULL OR action = $3)
            AND ($5 IS NULL OR queue_name = $5)
            AND xid <= coalesce($9::text::xid8, '18446744073709551615'::xid8)
            AND ($9 IS NULL OR (xid, id) < ($9::text::xid8, $10))
        ORDER BY xid DESC
        FETCH FIRST ($8::int) ROWS WITH TIES
    )
) AS entry
ORDER BY entry.xid DESC, entry.id DESC -- by the number: the column that is answered is its text
LIMIT $8::int
