-- The dead letter of job $2 that still lies open; $1 tenant (null: every).
SELECT id FROM ferryman.dead_letter_jobs
WHERE original_job_id = $2::uuid AND status = 'dead' AND ($1::text IS NULL OR tenant_id = $1)
