-- The audit rows that pruning would remove: $1 queues with, in equal length, $2 the instant before which theirs
-- go; $3 the instant before which days and rows without a queue go (null: only the queues').
SELECT count(*) AS rows
FROM ferryman.job_audit AS audit
LEFT JOIN unnest($1::varchar[], $2::timestamptz[]) AS policy (queue_name, before)
    ON policy.queue_name = audit.queue_name
WHERE audit.at < (SELECT max(before) FROM unnest($2) AS before)
    AND CASE
        WHEN policy.before IS NOT NULL THEN audit.at < policy.before
        WHEN audit.queue_name IS NULL THEN audit.at < $3::timestamptz
        ELSE audit.at < date_trunc('day', $3, 'UTC') AND audit.tableoid <> 'ferryman.job_audit_default'::regclass
    END
