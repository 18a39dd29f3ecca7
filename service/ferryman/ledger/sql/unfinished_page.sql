-- A page of the waiting and running jobs of a queue in the order of their ids. $1 queue, $2 after which id,
-- $3 limit. The queue is bounded from both sides instead of named, so that no plan walks the ids of all jobs.
SELECT
    j.id, j.queue_name, j.tenant_id, j.status, j.attempt, j.priority, j.claim_token,
    floor(extract(epoch FROM j.ready_since) * 1000)::bigint AS ready_ms,
    greatest(0, ceil(extract(epoch FROM j.run_at - now()) * 1000))::bigint AS due_in_ms,
    greatest(0, ceil(extract(epoch FROM j.lease_until - now()) * 1000))::bigint AS lease_ms,
    (SELECT settings ->> 'priorityAgingMs' FROM ferryman.queues WHERE name = $1) AS aging_ms
FROM ferryman.jobs AS j
WHERE (j.queue_name, j.id) > ($1::varchar, $2::uuid) AND j.queue_name <= $1
    AND j.status IN ('pending', 'running')
ORDER BY j.queue_name, j.id
LIMIT $3
