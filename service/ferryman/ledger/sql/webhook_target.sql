-- Where a delivery to endpoint $1 goes, and every secret that holds, the newest first. No row: it was removed.
SELECT
    w.tenant_id, w.url, w.enabled,
    ARRAY(
        SELECT s.secret FROM ferryman.webhook_secrets AS s
        WHERE s.webhook_id = w.id AND (s.expires_at IS NULL OR s.expires_at > now())
        ORDER BY s.created_at DESC
    ) AS secrets
FROM ferryman.webhooks AS w
WHERE w.id = $1::uuid
