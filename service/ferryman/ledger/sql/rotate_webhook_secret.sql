-- Gives endpoint $1 of tenant $2 the secret $3; the present one holds for $4 ms more, any older one no longer.
-- $5..$10 who: kind, id, override, reason, correlation, trace. No row: the tenant has no such endpoint.
WITH locked AS MATERIALIZED (
    SELECT id, tenant_id FROM ferryman.webhooks WHERE id = $1::uuid AND tenant_id = $2::varchar FOR UPDATE
),
ended AS (
    DELETE FROM ferryman.webhook_secrets
    WHERE webhook_id = (SELECT id FROM locked) AND expires_at IS NOT NULL
),
replaced AS (
    UPDATE ferryman.webhook_secrets SET expires_at = now() + $4::bigint * interval '1 millisecond'
    WHERE webhook_id = (SELECT id FROM locked) AND expires_at IS NULL
),
kept AS (
    INSERT INTO ferryman.webhook_secrets (webhook_id, tenant_id, secret)
    SELECT id, tenant_id, $3::varchar FROM locked
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, override, override_reason, correlation_id, trace_id, details
    )
    SELECT clock_timestamp(), tenant_id, $5::varchar, $6::varchar, 'webhook_secret_rotated',
        $7::boolean, $8::varchar, $9::varchar, $10::varchar, jsonb_build_object('webhookId', id)
    FROM locked
)
SELECT id FROM locked
