-- The ledger. Run by the owner; the service's role gets exactly what stands at the end.

CREATE SCHEMA IF NOT EXISTS ferryman;

-- RFC 9562 UUIDv7: 48 bits of Unix milliseconds, then randomness. PostgreSQL 18 has its own, 15 has not.
CREATE FUNCTION ferryman.uuid7(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(
    set_bit(
        set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM at) * 1000)::bigint) FROM 3) FROM 1 FOR 6
            ),
            52, 1
        ),
        53, 1
    ),
    'hex'
)::uuid;

-- The bucket of a duration in milliseconds. The bounds are those of ferryman.core.histogram.
CREATE FUNCTION ferryman.bucket(ms bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN width_bucket(ms - 1, ARRAY[
    1, 2, 3, 5, 7, 11, 17, 25, 38, 57, 86, 129, 194, 291, 437, 656, 985, 1477, 2216, 3325, 4987, 7481,
    11222, 16834, 25251, 37876, 56815, 85222, 127834, 191751, 287626, 431439, 647159, 970739, 1456109,
    2184164, 3276246, 4914369, 7371553, 11057330, 16585995, 24878992, 37318489, 55977733, 83966600
]::bigint[])::smallint;

-- An instant as REST writes it.
CREATE FUNCTION ferryman.rfc3339(at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

CREATE TABLE ferryman.queues (
    name varchar(100) PRIMARY KEY,
    settings jsonb NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ferryman.jobs (
    id uuid PRIMARY KEY,
    tenant_id varchar(50) NOT NULL,
    user_id integer NOT NULL,
    type varchar(50) NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'completed', 'dead_letter', 'cancelled', 'expired')),
    priority integer NOT NULL DEFAULT 0,
    queue_name varchar(100) NOT NULL DEFAULT 'default',
    attempt integer NOT NULL DEFAULT 0,         -- +1 at each claim, never down
    retry_count integer NOT NULL DEFAULT 0,     -- failures that used up a retry
    crashes integer NOT NULL DEFAULT 0,         -- leases lost; the cap is for poison
    max_retries integer NOT NULL DEFAULT 3,
    retry_delay_ms integer NOT NULL DEFAULT 1000,
    visibility_timeout_ms integer NOT NULL DEFAULT 30000,
    timeout_ms integer,
    max_retries_given boolean NOT NULL DEFAULT false,
    retry_delay_given boolean NOT NULL DEFAULT false,
    cancel_requested boolean NOT NULL DEFAULT false,
    isolated boolean NOT NULL DEFAULT false,    -- the running attempt has its worker to itself
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    run_at timestamptz NOT NULL DEFAULT now(),      -- not before
    ready_since timestamptz NOT NULL DEFAULT now(), -- its place in the order
    started_at timestamptz,
    completed_at timestamptz,
    expires_at timestamptz,                     -- not started after
    lease_until timestamptz,
    claim_token uuid,                           -- the fence: who ends an attempt must know it
    worker_id varchar(100),
    unique_key varchar(200),
    correlation_id varchar(128),
    traceparent varchar(128),
    parent_id uuid,
    error_class varchar(20),
    error_fingerprint varchar(16),
    error_message text,
    error_details jsonb,
    progress_percent real,
    progress_note varchar(500),
    tags text[] NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    failed_attempts jsonb NOT NULL DEFAULT '[]', -- one entry an attempt that did not complete, oldest first
    cursor jsonb,                               -- what the handler keeps between attempts
    input_data jsonb NOT NULL DEFAULT '{}',
    output_data jsonb,
    -- So that the token alone fences: it matches while the attempt runs, and never else.
    CONSTRAINT token_while_running CHECK ((status = 'running') = (claim_token IS NOT NULL))
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1
);

CREATE INDEX jobs_by_tenant ON ferryman.jobs (tenant_id, id);
-- What people look for among millions of ended jobs.
CREATE INDEX jobs_open ON ferryman.jobs (tenant_id, id) WHERE status IN ('pending', 'running', 'dead_letter');
CREATE INDEX jobs_by_user ON ferryman.jobs (tenant_id, user_id, id);
CREATE INDEX jobs_ready ON ferryman.jobs (queue_name, priority DESC, ready_since) WHERE status = 'pending';
CREATE INDEX jobs_unfinished ON ferryman.jobs (queue_name, id) WHERE status IN ('pending', 'running');
CREATE INDEX jobs_leased ON ferryman.jobs (lease_until) WHERE status = 'running';
CREATE INDEX jobs_expiring ON ferryman.jobs (expires_at) WHERE status = 'pending' AND expires_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_unique_key ON ferryman.jobs (tenant_id, type, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running');

CREATE TABLE ferryman.dead_letter_jobs (
    id uuid PRIMARY KEY,
    original_job_id uuid NOT NULL,
    tenant_id varchar(50) NOT NULL,
    user_id integer NOT NULL,
    job_type varchar(50) NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'dead' CHECK (status IN ('dead', 'requeued', 'discarded')),
    queue_name varchar(100) NOT NULL,
    dead_letter_queue varchar(100) NOT NULL,
    priority integer NOT NULL DEFAULT 0,
    reason varchar(50) NOT NULL,
    error_class varchar(20) NOT NULL,
    error_fingerprint varchar(16) NOT NULL,
    error_message text NOT NULL,
    error_details jsonb NOT NULL DEFAULT '{}',
    attempts jsonb NOT NULL DEFAULT '[]',
    attempt integer NOT NULL,
    retry_count integer NOT NULL,
    max_retries integer NOT NULL,
    redrives integer NOT NULL DEFAULT 0,        -- how often this job was requeued before this letter
    failed_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,                      -- requeued or discarded
    original_created_at timestamptz NOT NULL,
    worker_id varchar(100),
    correlation_id varchar(128),
    traceparent varchar(128),
    metadata jsonb NOT NULL DEFAULT '{}',
    tags text[] NOT NULL DEFAULT '{}',
    input_data jsonb NOT NULL DEFAULT '{}'
);

CREATE UNIQUE INDEX dead_letters_one_dead ON ferryman.dead_letter_jobs (original_job_id) WHERE status = 'dead';
CREATE INDEX dead_letters_by_job ON ferryman.dead_letter_jobs (original_job_id, id);
CREATE INDEX dead_letters_by_tenant ON ferryman.dead_letter_jobs (tenant_id, status, id);
CREATE INDEX dead_letters_by_queue ON ferryman.dead_letter_jobs (queue_name, failed_at) WHERE status = 'dead';

-- Append-only: see the trigger and the grants below. Dropped by the day, pruned by prune_audit alone.
CREATE TABLE ferryman.job_audit (
    id uuid NOT NULL DEFAULT ferryman.uuid7(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant_id varchar(50),
    actor_kind varchar(20) NOT NULL,
    actor_id varchar(100) NOT NULL,
    action varchar(40) NOT NULL,
    job_id uuid,
    job_type varchar(50),
    queue_name varchar(100),
    from_status varchar(20),
    to_status varchar(20),
    attempt integer,
    override boolean NOT NULL DEFAULT false,
    override_reason varchar(500),
    correlation_id varchar(128),
    trace_id varchar(32),
    details jsonb
) PARTITION BY RANGE (at);

CREATE INDEX job_audit_by_job ON ferryman.job_audit (job_id);
CREATE INDEX job_audit_by_time ON ferryman.job_audit USING brin (at) WITH (pages_per_range = 32, autosummarize = on);
CREATE TABLE ferryman.job_audit_default PARTITION OF ferryman.job_audit DEFAULT;

CREATE TABLE ferryman.job_stats (
    minute timestamptz NOT NULL,
    tenant_id varchar(50) NOT NULL,
    queue_name varchar(100) NOT NULL,
    type varchar(50) NOT NULL,
    outcome varchar(20) NOT NULL,
    shard smallint NOT NULL,
    wait_bucket smallint NOT NULL,              -- histogram: the row counts the jobs of this bucket
    run_bucket smallint NOT NULL,
    jobs bigint NOT NULL DEFAULT 0,
    wait_ms bigint NOT NULL DEFAULT 0,
    run_ms bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE INDEX job_stats_by_tenant ON ferryman.job_stats (tenant_id, minute);

-- Running totals of a queue, for rates: job_stats is pruned, these only grow.
CREATE TABLE ferryman.queue_totals (
    queue_name varchar(100) NOT NULL,
    tenant_id varchar(50) NOT NULL,
    shard smallint NOT NULL,
    arrivals bigint NOT NULL DEFAULT 0,
    completions bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    service_ms bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (queue_name, tenant_id, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE TABLE ferryman.workers (
    id varchar(100) PRIMARY KEY,
    pod varchar(253) NOT NULL,
    queues text[] NOT NULL,
    types text[] NOT NULL,
    slots integer NOT NULL,
    busy integer NOT NULL,
    state varchar(20) NOT NULL,
    drain_requested boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT now(),
    beat_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Who leads a kind of loop, by a lease row: advisory locks lie behind a pooler.
CREATE TABLE ferryman.leaders (
    role varchar(50) PRIMARY KEY,
    holder varchar(100) NOT NULL,
    until timestamptz NOT NULL
);

-- What a dry run of the dead-letter reconciliation previewed; its digest binds the apply.
CREATE TABLE ferryman.redrive_previews (
    digest varchar(64) PRIMARY KEY,
    tenant_id varchar(50),
    letter_ids uuid[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    spent_at timestamptz
);

-- The audit answers to nobody: not even the owner changes a row. prune_audit sets the flag for its own
-- transaction, and it alone runs as the owner on the service's behalf.
CREATE FUNCTION ferryman.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('ferryman.pruning', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'ferryman.job_audit is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ferryman.job_audit
    FOR EACH ROW EXECUTE FUNCTION ferryman.refuse_audit_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ferryman.job_audit
    FOR EACH STATEMENT EXECUTE FUNCTION ferryman.refuse_audit_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ferryman.job_audit_default
    FOR EACH STATEMENT EXECUTE FUNCTION ferryman.refuse_audit_change();

-- Makes the day partitions of the audit from today to `days` ahead. Safe to call at any time by anybody.
CREATE FUNCTION ferryman.ensure_audit_partitions(days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ferryman, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    day date;
    made integer := 0;
    part text;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    FOR day IN SELECT current_date + g FROM generate_series(0, least(days, 14)) AS g LOOP
        part := 'job_audit_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('ferryman.' || part) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE ferryman.%I PARTITION OF ferryman.job_audit FOR VALUES FROM (%L) TO (%L)',
                part, day::timestamptz, (day + 1)::timestamptz
            );
            EXECUTE format(
                'CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ferryman.%I '
                'FOR EACH STATEMENT EXECUTE FUNCTION ferryman.refuse_audit_change()', part
            );
            made := made + 1;
        EXCEPTION WHEN duplicate_table OR check_violation THEN
            NULL; -- a twin made it, or the default partition already holds rows of that day: both are fine
        END;
    END LOOP;
    RETURN made;
END $$;

-- Deletes at most `batch` audit rows of a queue (null: rows without a queue) that are older than `before`.
CREATE FUNCTION ferryman.prune_audit(queue text, before timestamptz, batch integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ferryman, pg_temp AS $$
DECLARE
    pruned integer;
BEGIN
    PERFORM set_config('ferryman.pruning', 'on', true);
    DELETE FROM ferryman.job_audit AS audit
    USING (
        SELECT tableoid, ctid FROM ferryman.job_audit
        WHERE at < before AND queue_name IS NOT DISTINCT FROM queue LIMIT batch
    ) AS old
    WHERE audit.tableoid = old.tableoid AND audit.ctid = old.ctid AND audit.at < before;
    GET DIAGNOSTICS pruned = ROW_COUNT;
    PERFORM set_config('ferryman.pruning', 'off', true);
    RETURN pruned;
END $$;

-- Drops the day partitions of the audit that are older than `before` as a whole. Returns the rows that went.
CREATE FUNCTION ferryman.drop_audit_days(before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ferryman, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    part record;
    gone bigint := 0;
    counted bigint;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    FOR part IN
        SELECT c.relname, to_date(right(c.relname, 8), 'YYYYMMDD') AS day
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'ferryman.job_audit'::regclass AND c.relname ~ '^job_audit_[0-9]{8}$'
    LOOP
        CONTINUE WHEN (part.day + 1)::timestamptz > before;
        EXECUTE format('SELECT count(*) FROM ferryman.%I', part.relname) INTO counted;
        EXECUTE format('DROP TABLE ferryman.%I', part.relname);
        gone := gone + counted;
    END LOOP;
    RETURN gone;
END $$;

SELECT ferryman.ensure_audit_partitions(7);

INSERT INTO ferryman.queues (name, settings) VALUES
    ('default', '{"deadLetterQueue": "default_dlq"}'),
    ('high_priority', '{"maxSize": 100, "maxBacklog": 500, "visibilityTimeoutMs": 10000, "deadLetterQueue": "high_priority_dlq"}'),
    ('background', '{"maxSize": 5000, "maxBacklog": 10000, "visibilityTimeoutMs": 60000, "deadLetterQueue": "background_dlq"}');

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferryman_service') THEN
        CREATE ROLE ferryman_service NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL; -- another database of this server was first
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role ferryman_service does not exist and may not be created by %', current_user
            USING HINT = 'Let an administrator run: CREATE ROLE ferryman_service NOLOGIN; then GRANT it to the service''s login role.';
END $$;

GRANT USAGE ON SCHEMA ferryman TO ferryman_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    ferryman.queues, ferryman.jobs, ferryman.dead_letter_jobs, ferryman.job_stats, ferryman.queue_totals,
    ferryman.workers, ferryman.leaders, ferryman.redrive_previews TO ferryman_service;
GRANT SELECT, INSERT ON ferryman.job_audit TO ferryman_service;
GRANT SELECT ON ferryman.schema_migrations TO ferryman_service;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ferryman FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ferryman TO ferryman_service;
