-- ferryman.enqueue: other applications submit jobs inside their own transactions.

-- Which tenant a database role submits for. Nobody but the owner reads or writes it; enqueue does as the owner.
CREATE TABLE ferryman.tenant_grants (
    db_role name PRIMARY KEY,
    tenant_id varchar(50) NOT NULL CHECK (tenant_id <> ''),
    granted_at timestamptz NOT NULL DEFAULT now()
);
SELECT ferryman.wall('ferryman.tenant_grants');

-- Jobs that enqueue has stored and nobody has pushed yet. A row of its own, because a long transaction commits its
-- jobs at times that no sweep of recent rows looks back to.
CREATE TABLE ferryman.arrivals (
    job_id uuid PRIMARY KEY,
    taken_until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
GRANT SELECT, UPDATE, DELETE ON ferryman.arrivals TO ferryman_service;

-- A shard of the statistics that no other transaction writes to until this one ends: its rows stay locked as long
-- as the caller likes. Those of the service's own processes, 0 to 63, are never among them.
CREATE FUNCTION ferryman.free_shard() RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
    shard integer;
BEGIN
    FOR i IN 0..447 LOOP
        shard := 64 + (pg_backend_pid() + i) % 448;
        IF pg_try_advisory_xact_lock(1717924466, shard) THEN
            RETURN shard;
        END IF;
    END LOOP;
    RETURN 64 + pg_backend_pid() % 448;
END $$;

CREATE FUNCTION ferryman.refuse(argument text, takes text, got text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ferryman.enqueue: % takes %; got %', argument, takes,
        CASE WHEN got IS NULL THEN 'nothing' WHEN got = '' THEN 'an empty text' WHEN length(got) > 40 THEN left(got, 39) || '…' ELSE got END
        USING ERRCODE = 'invalid_parameter_value';
END $$;

-- Null is an argument that was left out.
CREATE FUNCTION ferryman.check_range(argument text, given bigint, least_ bigint, most bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF given NOT BETWEEN least_ AND most THEN
        PERFORM ferryman.refuse(argument, format('an integer from %s to %s', least_, most), given::text);
    END IF;
END $$;

-- A document as ferryman.core.documents takes it. Magnitudes first: 1e100000 is six bytes until it is written out.
CREATE FUNCTION ferryman.check_input(given jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF jsonb_typeof(given) <> 'object' THEN
        PERFORM ferryman.refuse('input', 'an object', jsonb_typeof(given));
    ELSIF jsonb_path_exists(
        given, 'strict $.** ? (@.type() == "number" && (@ > 1e308 || @ < -1e308 || (@ < 1e-324 && @ > -1e-324 && @ != 0)))'
    ) THEN
        PERFORM ferryman.refuse('input', 'numbers within ±1e308', 'one beyond');
    ELSIF jsonb_path_exists(given, 'strict $.**{64 to last} ? (@.type() == "object" || @.type() == "array")') THEN
        PERFORM ferryman.refuse('input', 'at most 64 levels of nesting', 'more');
    ELSIF octet_length(given::text) > 1048576 THEN
        PERFORM ferryman.refuse('input', 'at most 1048576 bytes', octet_length(given::text)::text);
    END IF;
END $$;

CREATE FUNCTION ferryman.check_labels(tags text[], metadata jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    wrong text;
    bytes integer;
BEGIN
    IF cardinality(tags) > 32 OR array_ndims(tags) > 1 THEN
        PERFORM ferryman.refuse('tags', 'at most 32 texts', cardinality(tags) || ' of them');
    ELSIF EXISTS (SELECT FROM unnest(tags) AS tag WHERE tag IS NULL OR length(tag) NOT BETWEEN 1 AND 64) THEN
        SELECT tag INTO wrong FROM unnest(tags) AS tag WHERE tag IS NULL OR length(tag) NOT BETWEEN 1 AND 64 LIMIT 1;
        PERFORM ferryman.refuse('tags', 'texts of 1 to 64 characters', wrong);
    END IF;
    IF jsonb_typeof(metadata) <> 'object' THEN
        PERFORM ferryman.refuse('metadata', 'an object', jsonb_typeof(metadata));
    END IF;
    FOR wrong IN SELECT key FROM jsonb_each(metadata) WHERE key !~ '^[A-Za-z0-9_.-]{1,64}$' LOOP
        PERFORM ferryman.refuse('metadata', 'keys of 1 to 64 of A–Z a–z 0–9 _ . -', wrong);
    END LOOP;
    FOR wrong IN
        SELECT key FROM jsonb_each(metadata) WHERE jsonb_typeof(value) NOT IN ('string', 'number', 'boolean')
    LOOP
        PERFORM ferryman.refuse('metadata', 'texts, numbers and booleans', jsonb_typeof(metadata -> wrong));
    END LOOP;
    IF jsonb_path_exists(metadata, 'strict $.* ? (@.type() == "number" && (@ > 1e308 || @ < -1e308))') THEN
        PERFORM ferryman.refuse('metadata', 'numbers within ±1e308', 'one beyond');
    END IF;
    -- jsonb is written with a blank behind each colon and comma; REST counts without.
    SELECT octet_length(metadata::text) - greatest(0, 2 * count(*) - 1), count(*)::text INTO bytes, wrong
    FROM jsonb_object_keys(metadata);
    IF wrong::integer > 32 THEN
        PERFORM ferryman.refuse('metadata', 'at most 32 keys', wrong || ' of them');
    ELSIF bytes > 8192 THEN
        PERFORM ferryman.refuse('metadata', 'at most 8192 bytes', bytes::text);
    END IF;
END $$;

-- The retry numbers of a job, as ferryman.core.queues.retry_policy and lifecycle.orders.make_job have them: the
-- submission's word, the queue's for the type, the seed of the type, the queue's. `given`: no handler changes them.
CREATE FUNCTION ferryman.retry_numbers(
    settings jsonb, job_type text, max_retries bigint, retry_delay_ms bigint,
    OUT retries integer, OUT retries_given boolean, OUT delay_ms integer, OUT delay_given boolean
) LANGUAGE sql STABLE AS $$
    SELECT
        coalesce(
            $3::integer, (by_type ->> 'maxRetries')::integer,
            CASE $2 WHEN 'chat' THEN 5 WHEN 'memory' THEN 3 WHEN 'notification' THEN 10 END,
            ($1 #>> '{retry,maxRetries}')::integer, 3
        ),
        $3 IS NOT NULL OR by_type ? 'maxRetries',
        coalesce(
            $4::integer, (by_type ->> 'initialDelayMs')::integer,
            CASE $2 WHEN 'chat' THEN 2000 WHEN 'memory' THEN 500 WHEN 'notification' THEN 30000 END,
            ($1 #>> '{retry,initialDelayMs}')::integer, 1000
        ),
        $4 IS NOT NULL OR by_type ? 'initialDelayMs'
    FROM coalesce($1 #> ARRAY['types', $2, 'retry'], '{}') AS by_type
$$;

-- Stores a job in the caller's transaction and answers its id; that of the unfinished job with the same unique_key
-- where there is one. The bounds are those of POST /api/jobs; null is an argument that was left out. The tenant is
-- the one that the calling login was granted. Raises 22023 for an argument, 42501 for a login without a tenant,
-- 42704 for an unknown queue, 53400 for a full one.
CREATE FUNCTION ferryman.enqueue(
    type text,
    input jsonb DEFAULT NULL,
    queue text DEFAULT NULL,
    priority bigint DEFAULT NULL,
    delay_ms bigint DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    ttl_ms bigint DEFAULT NULL,
    expires_at timestamptz DEFAULT NULL,
    max_retries bigint DEFAULT NULL,
    retry_delay_ms bigint DEFAULT NULL,
    visibility_timeout_ms bigint DEFAULT NULL,
    timeout_ms bigint DEFAULT NULL,
    tags text[] DEFAULT NULL,
    metadata jsonb DEFAULT NULL,
    unique_key text DEFAULT NULL,
    user_id bigint DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    traceparent text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, ferryman, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    at timestamptz := clock_timestamp();
    tenant varchar(50);
    settings jsonb;
    numbers record;
    not_before timestamptz;
    not_after timestamptz;
    max_waiting bigint;
    waiting bigint;
    new_id uuid := ferryman.uuid7(at);
    stored uuid;
    own_shard smallint;
BEGIN
    enqueue.input := coalesce(enqueue.input, '{}');
    enqueue.queue := coalesce(enqueue.queue, 'default');
    enqueue.tags := coalesce(enqueue.tags, '{}');
    enqueue.metadata := coalesce(enqueue.metadata, '{}');
    SELECT g.tenant_id INTO tenant FROM ferryman.tenant_grants AS g WHERE g.db_role = session_user;
    IF tenant IS NULL THEN
        RAISE EXCEPTION 'ferryman.enqueue: the role % was granted no tenant', session_user
            USING ERRCODE = 'insufficient_privilege',
            HINT = format('Let the owner run: ferryman grants add %s --tenant T', session_user);
    END IF;

    IF enqueue.type IS NULL OR enqueue.type !~ '^[A-Za-z0-9._:-]{1,50}$' THEN
        PERFORM ferryman.refuse('type', '1 to 50 of A–Z a–z 0–9 . _ : -', enqueue.type);
    ELSIF enqueue.queue !~ '^[a-z0-9][a-z0-9_.-]{0,62}$' THEN
        PERFORM ferryman.refuse('queue', 'a queue''s name', enqueue.queue);
    ELSIF length(enqueue.unique_key) NOT BETWEEN 1 AND 200 THEN
        PERFORM ferryman.refuse('unique_key', '1 to 200 characters', length(enqueue.unique_key)::text);
    ELSIF enqueue.correlation_id !~ '^[A-Za-z0-9._:-]{1,128}$' THEN
        PERFORM ferryman.refuse('correlation_id', '1 to 128 of A–Z a–z 0–9 . _ : -', enqueue.correlation_id);
    ELSIF enqueue.traceparent !~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$' THEN
        PERFORM ferryman.refuse('traceparent', 'a W3C traceparent', enqueue.traceparent);
    ELSIF enqueue.delay_ms IS NOT NULL AND enqueue.run_at IS NOT NULL THEN
        PERFORM ferryman.refuse('run_at', 'nothing beside delay_ms', 'both');
    ELSIF enqueue.ttl_ms IS NOT NULL AND enqueue.expires_at IS NOT NULL THEN
        PERFORM ferryman.refuse('expires_at', 'nothing beside ttl_ms', 'both');
    ELSIF enqueue.run_at > at + interval '3653 days' THEN
        PERFORM ferryman.refuse('run_at', 'a time within ten years', enqueue.run_at::text);
    ELSIF enqueue.expires_at > at + interval '3653 days' THEN
        PERFORM ferryman.refuse('expires_at', 'a time within ten years', enqueue.expires_at::text);
    ELSIF enqueue.expires_at <= at THEN
        PERFORM ferryman.refuse('expires_at', 'a time to come', enqueue.expires_at::text);
    END IF;
    PERFORM ferryman.check_range('priority', enqueue.priority, 0, 100);
    PERFORM ferryman.check_range('delay_ms', enqueue.delay_ms, 0, 31536000000);
    PERFORM ferryman.check_range('ttl_ms', enqueue.ttl_ms, 1, 315360000000);
    PERFORM ferryman.check_range('max_retries', enqueue.max_retries, 0, 100);
    PERFORM ferryman.check_range('retry_delay_ms', enqueue.retry_delay_ms, 0, 86400000);
    PERFORM ferryman.check_range('visibility_timeout_ms', enqueue.visibility_timeout_ms, 100, 43200000);
    PERFORM ferryman.check_range('timeout_ms', enqueue.timeout_ms, 1, 86400000);
    PERFORM ferryman.check_range('user_id', enqueue.user_id, 0, 2147483647);
    PERFORM ferryman.check_input(enqueue.input);
    PERFORM ferryman.check_labels(enqueue.tags, enqueue.metadata);

    -- Held until the COMMIT, so that no queue is deleted under its new job.
    SELECT q.settings INTO settings FROM ferryman.queues AS q WHERE q.name = enqueue.queue FOR KEY SHARE;
    IF settings IS NULL THEN
        RAISE EXCEPTION 'ferryman.enqueue: there is no queue "%"', enqueue.queue USING ERRCODE = 'undefined_object';
    END IF;
    max_waiting := coalesce((settings ->> 'maxSize')::bigint, 1000) + coalesce((settings ->> 'maxBacklog')::bigint, 5000);
    SELECT count(*) INTO waiting
    FROM (
        SELECT FROM ferryman.jobs AS j WHERE j.queue_name = enqueue.queue AND j.status = 'pending' LIMIT max_waiting
    ) AS counted;
    IF waiting >= max_waiting THEN
        RAISE EXCEPTION 'ferryman.enqueue: queue "%" holds % waiting jobs, which is its limit', enqueue.queue, max_waiting
            USING ERRCODE = 'configuration_limit_exceeded';
    END IF;

    numbers := ferryman.retry_numbers(settings, enqueue.type, enqueue.max_retries, enqueue.retry_delay_ms);
    not_before := greatest(at, coalesce(enqueue.run_at, at + coalesce(enqueue.delay_ms, 0) * interval '1 millisecond'));
    not_after := coalesce(enqueue.expires_at, at + enqueue.ttl_ms * interval '1 millisecond');
    FOR try IN 1..3 LOOP
        INSERT INTO ferryman.jobs (
            id, tenant_id, user_id, type, queue_name, priority, input_data,
            max_retries, max_retries_given, retry_delay_ms, retry_delay_given, visibility_timeout_ms, timeout_ms,
            created_at, updated_at, run_at, ready_since, expires_at, tags, metadata, unique_key,
            correlation_id, traceparent
        ) VALUES (
            new_id, tenant, coalesce(enqueue.user_id, 0), enqueue.type, enqueue.queue,
            coalesce(enqueue.priority, 0), enqueue.input,
            numbers.retries, numbers.retries_given, numbers.delay_ms, numbers.delay_given,
            coalesce(enqueue.visibility_timeout_ms, (settings ->> 'visibilityTimeoutMs')::bigint, 30000),
            coalesce(enqueue.timeout_ms, (settings #>> ARRAY['types', enqueue.type, 'timeoutMs'])::bigint),
            at, at, not_before, not_before, not_after, enqueue.tags, enqueue.metadata, enqueue.unique_key,
            coalesce(enqueue.correlation_id, new_id::text), enqueue.traceparent
        ) ON CONFLICT DO NOTHING RETURNING id INTO stored;
        EXIT WHEN stored IS NOT NULL;
        SELECT j.id INTO stored FROM ferryman.jobs AS j
        WHERE j.tenant_id = tenant AND j.type = enqueue.type AND j.unique_key = enqueue.unique_key
            AND j.status IN ('pending', 'running');
        IF stored IS NOT NULL THEN
            RETURN stored;
        END IF;
    END LOOP;
    IF stored IS NULL THEN
        RAISE EXCEPTION 'ferryman.enqueue: the unique_key changes hands too fast' USING ERRCODE = 'serialization_failure';
    END IF;

    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, to_status, attempt,
        correlation_id, trace_id, details
    ) VALUES (
        at, tenant, 'service', session_user, 'submitted', new_id, enqueue.type, enqueue.queue, 'pending', 0,
        coalesce(enqueue.correlation_id, new_id::text), substr(enqueue.traceparent, 4, 32),
        CASE WHEN not_before > at THEN
            jsonb_build_object('delayMs', ceil(extract(epoch FROM not_before - at) * 1000)::bigint)
        END
    );
    own_shard := ferryman.free_shard();
    INSERT INTO ferryman.job_stats AS s (
        queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket, jobs
    ) VALUES (enqueue.queue, date_trunc('minute', at), tenant, enqueue.type, 'submitted', own_shard, 0, 0, 1)
    ON CONFLICT (queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket)
    DO UPDATE SET jobs = s.jobs + 1;
    INSERT INTO ferryman.queue_totals AS t (queue_name, tenant_id, shard, arrivals)
    VALUES (enqueue.queue, tenant, own_shard, 1)
    ON CONFLICT (queue_name, tenant_id, shard) DO UPDATE SET arrivals = t.arrivals + 1;
    INSERT INTO ferryman.arrivals (job_id) VALUES (new_id);
    PERFORM pg_notify('ferryman_arrivals', '');
    RETURN new_id;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ferryman FROM PUBLIC;
