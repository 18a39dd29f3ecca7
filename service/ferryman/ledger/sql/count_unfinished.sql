-- Waiting and running jobs of queue $1, of one tenant or of all ($2 null).
SELECT
    count(*) FILTER (WHERE status = 'pending' AND run_at <= now()) AS pending,
    count(*) FILTER (WHERE status = 'pending' AND run_at > now() AND attempt = 0) AS scheduled,
    count(*) FILTER (WHERE status = 'pending' AND run_at > now() AND attempt > 0) AS retrying,
    count(*) FILTER (WHERE status = 'running') AS running
FROM ferryman.jobs
WHERE queue_name = $1::varchar AND status IN ('pending', 'running') AND ($2::text IS NULL OR tenant_id = $2)
