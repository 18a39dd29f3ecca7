-- Endpoint $1 did not take an event. It is disabled when $2 it says that it is gone, or with the failure $3 in a row
-- once they have gone on for $4 ms; $5 the actor's kind, $6 its id. One row: whether it was; none: it was before.
WITH judged AS MATERIALIZED (
    SELECT
        id, failures + 1 AS failures, coalesce(failing_since, clock_timestamp()) AS failing_since,
        CASE
            WHEN $2::boolean THEN 'gone'
            WHEN failures + 1 >= $3::integer
                AND failing_since <= clock_timestamp() - $4::bigint * interval '1 millisecond' THEN 'failing'
        END AS reason
    FROM ferryman.webhooks WHERE id = $1::uuid AND enabled
    FOR UPDATE
),
counted AS (
    UPDATE ferryman.webhooks AS w
    SET failures = j.failures, failing_since = j.failing_since, enabled = j.reason IS NULL,
        disabled_reason = j.reason, disabled_at = CASE WHEN j.reason IS NOT NULL THEN clock_timestamp() END
    FROM judged AS j
    WHERE w.id = j.id
    RETURNING w.id, w.tenant_id, w.url, w.failures, j.reason
),
audited AS (
    INSERT INTO ferryman.job_audit (at, tenant_id, actor_kind, actor_id, action, details)
    SELECT clock_timestamp(), tenant_id, $5::varchar, $6::varchar, 'webhook_disabled',
        jsonb_build_object('webhookId', id, 'url', url, 'failures', failures, 'reason', reason)
    FROM counted WHERE reason IS NOT NULL
)
SELECT reason IS NOT NULL AS disabled FROM counted
