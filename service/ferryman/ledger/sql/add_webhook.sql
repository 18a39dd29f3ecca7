-- Makes endpoint $1 of tenant $2: $3 URL, $4 events, $5 queues, $6 types, $7 enabled, $8 its secret, $9 how many
-- endpoints a tenant may have; $10..$15 who: kind, id, override, reason, correlation, trace. No row: it has as many.
WITH stored AS (
    INSERT INTO ferryman.webhooks (id, tenant_id, url, events, queues, types, enabled)
    SELECT $1::uuid, $2::varchar, $3::varchar, $4::text[], $5::text[], $6::text[], $7::boolean
    WHERE (SELECT count(*) FROM ferryman.webhooks WHERE tenant_id = $2) < $9::integer
    RETURNING id, tenant_id, url, events, queues, types, enabled
),
kept AS (
    INSERT INTO ferryman.webhook_secrets (webhook_id, tenant_id, secret)
    SELECT id, tenant_id, $8::varchar FROM stored
),
begun AS (
    INSERT INTO ferryman.webhook_cursors (tenant_id) SELECT tenant_id FROM stored ON CONFLICT DO NOTHING
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, override, override_reason, correlation_id, trace_id, details
    )
    SELECT clock_timestamp(), tenant_id, $10::varchar, $11::varchar, 'webhook_created',
        $12::boolean, $13::varchar, $14::varchar, $15::varchar,
        jsonb_build_object('webhookId', id, 'url', url, 'events', events, 'queues', queues, 'types', types,
            'enabled', enabled)
    FROM stored
)
SELECT id FROM stored
