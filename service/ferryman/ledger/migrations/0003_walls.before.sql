-- The second wall: what an API call does for one tenant runs as ferryman_tenant, and PostgreSQL itself shows
-- and changes that tenant's rows alone, even if a query forgets its filter.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferryman_tenant') THEN
        CREATE ROLE ferryman_tenant NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL; -- another database of this server was first
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role ferryman_tenant does not exist and may not be created by %', current_user
            USING HINT = 'Let an administrator run: CREATE ROLE ferryman_tenant NOLOGIN; GRANT ferryman_tenant TO ferryman_service;';
END $$;

-- Whoever is the service may step behind the wall.
DO $$
BEGIN
    IF NOT pg_has_role('ferryman_service', 'ferryman_tenant', 'MEMBER') THEN
        GRANT ferryman_tenant TO ferryman_service;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'ferryman_service is no member of ferryman_tenant and may not be made one by %', current_user
        USING HINT = 'Let an administrator run: GRANT ferryman_tenant TO ferryman_service;';
END $$;

-- A small installation serves as the owner itself. Where it may not be granted, the owner only migrates.
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT ferryman_tenant TO %I', current_user);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $$;

-- Puts a table with a tenant_id behind the wall: the engine and the owner see all of it, ferryman_tenant the
-- rows of the tenant that its transaction has set, and nothing while none is set. An ended transaction leaves
-- the setting empty, not unset: that matches nobody either. Every migration that adds such a table calls this.
CREATE FUNCTION ferryman.wall(walled regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', walled);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', walled);
    EXECUTE format('CREATE POLICY engine ON %s TO ferryman_service, CURRENT_USER USING (true)', walled);
    EXECUTE format(
        'CREATE POLICY tenant ON %s TO ferryman_tenant '
        'USING (tenant_id = nullif(current_setting(''ferryman.tenant'', true), ''''))', walled
    );
END $$;

SELECT ferryman.wall(walled) FROM unnest(ARRAY[
    'ferryman.jobs', 'ferryman.dead_letter_jobs', 'ferryman.job_audit', 'ferryman.job_stats',
    'ferryman.queue_totals', 'ferryman.redrive_previews', 'ferryman.idempotency_keys'
]::regclass[]) AS walled;

-- What has not ended is deleted by nobody: the service's members are members of ferryman_tenant, too.
CREATE POLICY ended ON ferryman.jobs AS RESTRICTIVE FOR DELETE TO ferryman_tenant
    USING (status IN ('completed', 'dead_letter', 'cancelled', 'expired'));

-- Queues are shared. To lock one against its deletion asks for the right to change it; the check refuses the change.
ALTER TABLE ferryman.queues ENABLE ROW LEVEL SECURITY;
ALTER TABLE ferryman.queues FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON ferryman.queues TO ferryman_service, CURRENT_USER USING (true);
CREATE POLICY tenant ON ferryman.queues TO ferryman_tenant USING (true) WITH CHECK (false);

-- A partition that is asked by itself knows no policy of its parent's: it shows nothing, even to its owner.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'ferryman.job_audit'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', part);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', part);
    END LOOP;
END $$;

-- As before, and each new partition is behind the wall.
CREATE OR REPLACE FUNCTION ferryman.ensure_audit_partitions(days integer) RETURNS integer
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
            EXECUTE format('ALTER TABLE ferryman.%I ENABLE ROW LEVEL SECURITY', part);
            EXECUTE format('ALTER TABLE ferryman.%I FORCE ROW LEVEL SECURITY', part);
            made := made + 1;
        EXCEPTION WHEN duplicate_table OR check_violation THEN
            NULL; -- a twin made it, or the default partition already holds rows of that day: both are fine
        END;
    END LOOP;
    RETURN made;
END $$;

-- As before; the rows are counted through the parent, for a partition itself shows none.
CREATE OR REPLACE FUNCTION ferryman.drop_audit_days(before timestamptz) RETURNS bigint
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
        SELECT count(*) INTO counted FROM ferryman.job_audit
        WHERE at >= part.day::timestamptz AND at < (part.day + 1)::timestamptz;
        EXECUTE format('DROP TABLE ferryman.%I', part.relname);
        gone := gone + counted;
    END LOOP;
    RETURN gone;
END $$;

-- What the calls of one tenant need, and no more: no job comes in by this role, and none of its input changes.
GRANT USAGE ON SCHEMA ferryman TO ferryman_tenant;
GRANT SELECT, DELETE ON ferryman.jobs, ferryman.dead_letter_jobs TO ferryman_tenant;
GRANT UPDATE (
    status, retry_count, crashes, cancel_requested, run_at, ready_since, expires_at, started_at, completed_at,
    worker_id, claim_token, lease_until, progress_percent, progress_note, updated_at
) ON ferryman.jobs TO ferryman_tenant;
GRANT UPDATE (status, closed_at) ON ferryman.dead_letter_jobs TO ferryman_tenant;
GRANT SELECT, INSERT ON ferryman.job_audit, ferryman.job_stats, ferryman.redrive_previews TO ferryman_tenant;
GRANT UPDATE (jobs) ON ferryman.job_stats TO ferryman_tenant;
GRANT DELETE, UPDATE (spent_at) ON ferryman.redrive_previews TO ferryman_tenant;
GRANT SELECT ON ferryman.queue_totals TO ferryman_tenant;
GRANT SELECT (tenant_id, user_id, key, status, tried_at), DELETE ON ferryman.idempotency_keys TO ferryman_tenant;
GRANT SELECT (name, settings, paused, version), UPDATE (updated_at) ON ferryman.queues TO ferryman_tenant;
GRANT SELECT (queues, slots, busy, beat_at) ON ferryman.workers TO ferryman_tenant;
REVOKE ALL ON FUNCTION ferryman.wall(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferryman.uuid7(timestamptz) TO ferryman_tenant;
