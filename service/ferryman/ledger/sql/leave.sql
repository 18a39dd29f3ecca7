-- The worker has stopped. $1 worker.
DELETE FROM ferryman.workers WHERE id = $1
