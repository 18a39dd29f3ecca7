-- Where each of these jobs belongs in the dispatcher. $1 ids. One row for each id that has a job.
WITH wanted AS MATERIALIZED (SELECT id FROM unnest($1::uuid[]) AS w(id))
SELECT
    j.id, j.queue_name, j.tenant_id, j.type, j.status, j.attempt, j.priority, j.claim_token,
    floor(extract(epoch FROM j.ready_since) * 1000)::bigint AS ready_ms,
    greatest(0, ceil(extract(epoch FROM j.run_at - now()) * 1000))::bigint AS due_in_ms,
    greatest(0, ceil(extract(epoch FROM j.lease_until - now()) * 1000))::bigint AS lease_ms,
    q.settings ->> 'priorityAgingMs' AS aging_ms
FROM wanted AS w
CROSS JOIN LATERAL (SELECT * FROM ferryman.jobs WHERE id = w.id OFFSET 0) AS j
LEFT JOIN ferryman.queues AS q ON q.name = j.queue_name
