-- Every queue that is or ever had a job, with its settings (null: it was deleted), and the ledger's clock.
SELECT now() AS now, coalesce(q.name, t.queue_name) AS name, q.settings::text AS settings
FROM ferryman.queues AS q
FULL JOIN (SELECT DISTINCT queue_name FROM ferryman.queue_totals) AS t ON t.queue_name = q.name
