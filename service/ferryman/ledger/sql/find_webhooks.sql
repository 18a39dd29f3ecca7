-- The endpoints of tenant $1, the oldest first; $2 one of them, or null for all.
SELECT
    w.id, w.tenant_id, w.url, w.events, w.queues, w.types, w.enabled, w.disabled_reason, w.disabled_at,
    w.failures, w.failing_since, w.created_at, w.updated_at,
    (
        SELECT s.expires_at FROM ferryman.webhook_secrets AS s
        WHERE s.webhook_id = w.id AND s.expires_at > now()
        ORDER BY s.expires_at DESC LIMIT 1
    ) AS previous_secret_until
FROM ferryman.webhooks AS w
WHERE w.tenant_id = $1::varchar AND ($2::uuid IS NULL OR w.id = $2)
ORDER BY w.id
