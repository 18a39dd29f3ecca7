-- Idempotency keys: what a submission under a key may do, and what it was answered.

CREATE TABLE ferryman.idempotency_keys (
    tenant_id varchar(50) NOT NULL,
    user_id integer NOT NULL,
    key varchar(200) NOT NULL,
    body_hash bytea NOT NULL,
    job_ids uuid[] NOT NULL,                    -- fixed by the first try, so that every other stores the same
    status smallint,                            -- of the answer; null while nobody has answered
    answer bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    tried_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id, key)
);

CREATE INDEX idempotency_keys_by_age ON ferryman.idempotency_keys (created_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON ferryman.idempotency_keys TO ferryman_service;
