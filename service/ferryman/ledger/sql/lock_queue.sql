-- Keeps submissions out of queue $1 until the transaction ends. No row: there is none.
SELECT name FROM ferryman.queues WHERE name = $1::varchar FOR UPDATE
