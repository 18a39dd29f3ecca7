-- The jobs with the ids $1 have been pushed. No rows.
WITH pushed AS MATERIALIZED (SELECT job_id FROM unnest($1::uuid[]) AS p(job_id))
DELETE FROM ferryman.arrivals AS a USING pushed WHERE a.job_id = pushed.job_id
