-- Webhooks: endpoints of tenants, their secrets, and how far each tenant's audit has been made into deliveries.

CREATE TABLE ferryman.webhooks (
    id uuid PRIMARY KEY,
    tenant_id varchar(50) NOT NULL,
    url varchar(2048) NOT NULL,
    events text[] NOT NULL,                     -- empty: every one; so with the other two
    queues text[] NOT NULL,
    types text[] NOT NULL,
    enabled boolean NOT NULL,
    disabled_reason varchar(20) CHECK (disabled_reason IN ('gone', 'failing')),
    disabled_at timestamptz,
    failures integer NOT NULL DEFAULT 0,        -- in a row
    failing_since timestamptz,
    since pg_snapshot NOT NULL DEFAULT pg_current_snapshot(), -- what it sees happened before the endpoint listened
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

CREATE INDEX webhooks_by_tenant ON ferryman.webhooks (tenant_id, id);

-- One without an end is the present one. Whoever signs needs the text itself, so it cannot be kept as a hash;
-- no tenant's transaction may read it.
CREATE TABLE ferryman.webhook_secrets (
    webhook_id uuid NOT NULL REFERENCES ferryman.webhooks ON DELETE CASCADE,
    tenant_id varchar(50) NOT NULL,
    secret varchar(100) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);

CREATE INDEX webhook_secrets_by_webhook ON ferryman.webhook_secrets (webhook_id);

CREATE TABLE ferryman.webhook_cursors (
    tenant_id varchar(50) PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT '0',
    audit_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
) WITH (fillfactor = 50);

SELECT ferryman.wall(walled) FROM unnest(ARRAY[
    'ferryman.webhooks', 'ferryman.webhook_secrets', 'ferryman.webhook_cursors'
]::regclass[]) AS walled;

GRANT SELECT, INSERT, UPDATE, DELETE ON ferryman.webhooks, ferryman.webhook_secrets, ferryman.webhook_cursors
    TO ferryman_service;
GRANT SELECT, INSERT, DELETE ON ferryman.webhooks TO ferryman_tenant;
GRANT UPDATE (
    url, events, queues, types, enabled, disabled_reason, disabled_at, failures, failing_since, since, updated_at
) ON ferryman.webhooks TO ferryman_tenant;
GRANT SELECT (webhook_id, tenant_id, created_at, expires_at), INSERT, UPDATE (expires_at), DELETE
    ON ferryman.webhook_secrets TO ferryman_tenant;
GRANT INSERT (tenant_id) ON ferryman.webhook_cursors TO ferryman_tenant;

-- Queues of the system hold the system's jobs alone: their tenants' names begin with a space, as no token's may.
ALTER TABLE ferryman.jobs ADD CONSTRAINT system_queue
    CHECK (left(queue_name, 7) <> 'system.' OR left(tenant_id, 1) = ' ');

CREATE INDEX jobs_by_webhook ON ferryman.jobs ((metadata ->> 'webhookId'), id)
    WHERE queue_name = 'system.webhooks';

-- 15 retries from 5 s up to an hour apart reach over some six hours.
INSERT INTO ferryman.queues (name, settings) VALUES ('system.webhooks', '{
    "maxSize": 100000, "maxBacklog": 1000000, "visibilityTimeoutMs": 30000, "timeoutMs": 20000,
    "deadLetterQueue": "system.webhooks_dlq", "perTenant": {"maxConcurrency": 5},
    "retry": {"maxRetries": 15, "initialDelayMs": 5000, "multiplier": 2.0, "maxDelayMs": 3600000, "jitter": true},
    "retention": {"completedMs": 259200000, "cancelledMs": 259200000, "deadLetterMs": 604800000, "auditMs": 604800000}
}') ON CONFLICT (name) DO NOTHING;
