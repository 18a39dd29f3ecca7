-- Replaces endpoint $1 of tenant $2: $3 URL, $4 events, $5 queues, $6 types, $7 enabled; $8..$13 who: kind, id,
-- override, reason, correlation, trace. Failures are forgotten; one that was disabled hears of what comes from now
-- on. No row: the tenant has no such endpoint.
WITH stored AS (
    UPDATE ferryman.webhooks
    SET url = $3::varchar, events = $4::text[], queues = $5::text[], types = $6::text[],
        since = CASE WHEN $7::boolean AND NOT enabled THEN pg_current_snapshot() ELSE since END,
        enabled = $7, disabled_reason = NULL,
        disabled_at = CASE WHEN $7 THEN NULL WHEN enabled THEN clock_timestamp() ELSE disabled_at END,
        failures = 0, failing_since = NULL, updated_at = clock_timestamp()
    WHERE id = $1::uuid AND tenant_id = $2::varchar
    RETURNING id, tenant_id, url, events, queues, types, enabled
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, override, override_reason, correlation_id, trace_id, details
    )
    SELECT clock_timestamp(), tenant_id, $8::varchar, $9::varchar, 'webhook_replaced',
        $10::boolean, $11::varchar, $12::varchar, $13::varchar,
        jsonb_build_object('webhookId', id, 'url', url, 'events', events, 'queues', queues, 'types', types,
            'enabled', enabled)
    FROM stored
)
SELECT id FROM stored
