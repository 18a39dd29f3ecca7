-- The queue named $1, or all of them by name (null).
SELECT name, settings::text AS settings, paused, version
FROM ferryman.queues
WHERE $1::varchar IS NULL OR name = $1
ORDER BY name
