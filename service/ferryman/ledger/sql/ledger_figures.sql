-- What only the ledger knows of queue $1, of one tenant or of all ($2 null); workers are shared, so they count
-- for every tenant. $3 horizons in milliseconds: `due` has for each how many jobs fall due within it. $4 a worker
-- that was silent for so many milliseconds is gone.
-- The ready index is stepped through by priority, so that a million waiting jobs are not read.
WITH RECURSIVE levels AS (
    (
        SELECT priority FROM ferryman.jobs
        WHERE queue_name = $1::varchar AND status = 'pending'
        ORDER BY priority DESC LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT j.priority FROM ferryman.jobs AS j
        WHERE j.queue_name = $1 AND j.status = 'pending' AND j.priority < levels.priority
        ORDER BY j.priority DESC LIMIT 1
    )
    FROM levels WHERE levels.priority IS NOT NULL
),
oldest AS (
    SELECT min(head.ready_since) AS since
    FROM levels
    CROSS JOIN LATERAL (
        SELECT ready_since FROM ferryman.jobs
        WHERE queue_name = $1 AND status = 'pending' AND priority = levels.priority
            AND ready_since <= now() AND run_at <= now() AND ($2::text IS NULL OR tenant_id = $2)
        ORDER BY ready_since LIMIT 1
    ) AS head
),
due AS (
    SELECT horizon.place, count(soon.ready_since) AS jobs
    FROM unnest($3::bigint[]) WITH ORDINALITY AS horizon (ms, place)
    LEFT JOIN LATERAL (
        SELECT j.ready_since FROM levels
        CROSS JOIN LATERAL (
            SELECT ready_since FROM ferryman.jobs
            WHERE queue_name = $1 AND status = 'pending' AND priority = levels.priority
                AND ready_since > now() AND ready_since <= now() + horizon.ms * interval '1 millisecond'
                AND ($2 IS NULL OR tenant_id = $2)
            ORDER BY ready_since -- so that no other index will do
            OFFSET 0
        ) AS j
    ) AS soon ON true
    GROUP BY horizon.place
),
running AS MATERIALIZED (
    SELECT queue_name, tenant_id, started_at FROM ferryman.jobs
    WHERE status = 'running' AND lease_until > '-infinity'
),
present AS (
    SELECT count(*) AS workers, coalesce(sum(slots), 0) AS slots, coalesce(sum(busy), 0) AS busy
    FROM ferryman.workers
    WHERE $1 = ANY(queues) AND beat_at > now() - $4::bigint * interval '1 millisecond'
),
totals AS (
    SELECT coalesce(sum(arrivals), 0) AS arrivals, coalesce(sum(completions), 0) AS completions,
        coalesce(sum(failures), 0) AS failures, coalesce(sum(service_ms), 0) AS service_ms
    FROM ferryman.queue_totals
    WHERE queue_name = $1 AND ($2 IS NULL OR tenant_id = $2)
)
SELECT
    (
        SELECT count(*) FROM ferryman.dead_letter_jobs
        WHERE queue_name = $1 AND status = 'dead' AND ($2 IS NULL OR tenant_id = $2)
    ) AS dead_letters,
    (SELECT (extract(epoch FROM now() - least(now(), since)) * 1000)::bigint FROM oldest WHERE since IS NOT NULL)
        AS oldest_pending_age_ms,
    ARRAY(SELECT jobs FROM due ORDER BY place) AS due,
    (
        SELECT coalesce(sum(greatest(0, extract(epoch FROM now() - started_at) * 1000)), 0)::bigint FROM running
        WHERE queue_name = $1 AND ($2 IS NULL OR tenant_id = $2)
    ) AS running_elapsed_ms,
    present.workers, present.slots::bigint AS slots, present.busy::bigint AS busy,
    totals.arrivals::bigint AS arrivals, totals.completions::bigint AS completions,
    totals.failures::bigint AS failures, totals.service_ms::bigint AS service_ms
FROM present, totals
