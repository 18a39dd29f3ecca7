-- Silent workers that hold nothing any more are forgotten. $1 workers, $2 milliseconds of silence.
DELETE FROM ferryman.workers
WHERE id = ANY($1::varchar[]) AND beat_at < now() - $2::bigint * interval '1 millisecond'
    AND (id IN (SELECT worker_id FROM ferryman.jobs WHERE status = 'running')) IS NOT TRUE
