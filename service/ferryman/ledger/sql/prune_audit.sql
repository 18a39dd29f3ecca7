-- Deletes at most $3 audit rows of queue $1 (null: those without a queue) that are older than $2.
SELECT ferryman.prune_audit($1::text, $2::timestamptz, $3::int) AS rows
