-- Idempotency keys, each for the first try, after its day, or when a try was not answered in time.
-- $1 tenants, $2 users, $3 keys, $4 hashes of the bodies, $5 job ids as array literals, of equal length and
-- without a key twice; $6 ms a key holds, $7 ms a try may take. One row for each key that could be seen:
-- `taken` with the ids to use, or what is known of it.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::varchar[], $2::integer[], $3::varchar[], $4::bytea[], $5::text[])
        AS g(tenant_id, user_id, key, body_hash, job_ids)
    ORDER BY tenant_id, user_id, key
),
old AS MATERIALIZED (
    SELECT tenant_id, user_id, key FROM ferryman.idempotency_keys
    WHERE created_at < now() - 2 * $6::bigint * interval '1 millisecond'
    ORDER BY created_at
    LIMIT 100
    FOR UPDATE SKIP LOCKED
),
swept AS (
    DELETE FROM ferryman.idempotency_keys AS k USING old
    WHERE k.tenant_id = old.tenant_id AND k.user_id = old.user_id AND k.key = old.key
        AND NOT EXISTS (
            SELECT FROM given AS g
            WHERE g.tenant_id = k.tenant_id AND g.user_id = k.user_id AND g.key = k.key
        )
),
taken AS (
    INSERT INTO ferryman.idempotency_keys AS k (tenant_id, user_id, key, body_hash, job_ids)
    SELECT tenant_id, user_id, key, body_hash, job_ids::uuid[] FROM given
    ON CONFLICT (tenant_id, user_id, key) DO UPDATE SET
        body_hash = EXCLUDED.body_hash,
        job_ids = CASE
            WHEN k.created_at < now() - $6::bigint * interval '1 millisecond' THEN EXCLUDED.job_ids
            ELSE k.job_ids
        END,
        created_at = CASE
            WHEN k.created_at < now() - $6::bigint * interval '1 millisecond' THEN now()
            ELSE k.created_at
        END,
        status = NULL,
        answer = NULL,
        tried_at = now()
    WHERE k.created_at < now() - $6::bigint * interval '1 millisecond'
        OR (
            k.status IS NULL AND k.body_hash = EXCLUDED.body_hash
            AND k.tried_at < now() - $7::bigint * interval '1 millisecond'
        )
    RETURNING k.tenant_id, k.user_id, k.key, k.job_ids, k.tried_at, k.body_hash
)
SELECT tenant_id, user_id, key, true AS taken, job_ids, tried_at, body_hash,
    NULL::smallint AS status, NULL::bytea AS answer
FROM taken
UNION ALL
SELECT k.tenant_id, k.user_id, k.key, false, k.job_ids, k.tried_at, k.body_hash, k.status, k.answer
FROM given AS g
CROSS JOIN LATERAL (
    SELECT * FROM ferryman.idempotency_keys
    WHERE tenant_id = g.tenant_id AND user_id = g.user_id AND key = g.key
    OFFSET 0
) AS k
WHERE NOT EXISTS (
    SELECT FROM taken AS t WHERE t.tenant_id = g.tenant_id AND t.user_id = g.user_id AND t.key = g.key
)
