-- The stored statuses of the jobs with the ids $1. An id without a row is left out.
SELECT w.id, j.status
FROM unnest($1::uuid[]) AS w(id)
CROSS JOIN LATERAL (SELECT status FROM ferryman.jobs WHERE id = w.id OFFSET 0) AS j
