-- Removes endpoint $1 of tenant $2 with its secrets; $3..$8 who: kind, id, override, reason, correlation, trace.
-- No row: the tenant has no such endpoint.
WITH gone AS (
    DELETE FROM ferryman.webhooks WHERE id = $1::uuid AND tenant_id = $2::varchar RETURNING id, tenant_id, url
),
audited AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, override, override_reason, correlation_id, trace_id, details
    )
    SELECT clock_timestamp(), tenant_id, $3::varchar, $4::varchar, 'webhook_deleted',
        $5::boolean, $6::varchar, $7::varchar, $8::varchar, jsonb_build_object('webhookId', id, 'url', url)
    FROM gone
)
SELECT id FROM gone
