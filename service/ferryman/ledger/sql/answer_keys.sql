-- What submissions under keys were answered. $1 tenants, $2 users, $3 keys, $4 statuses, $5 answers, of equal
-- length and without a key twice. The first answer stays. No rows.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::varchar[], $2::integer[], $3::varchar[], $4::smallint[], $5::bytea[])
        AS g(tenant_id, user_id, key, status, answer)
),
open AS MATERIALIZED (
    SELECT k.tenant_id, k.user_id, k.key, g.status AS new_status, g.answer AS new_answer
    FROM given AS g
    CROSS JOIN LATERAL (
        SELECT * FROM ferryman.idempotency_keys
        WHERE tenant_id = g.tenant_id AND user_id = g.user_id AND key = g.key
        FOR UPDATE OFFSET 0
    ) AS k
    WHERE k.status IS NULL
    ORDER BY k.tenant_id, k.user_id, k.key
)
UPDATE ferryman.idempotency_keys AS k SET status = open.new_status, answer = open.new_answer
FROM open
WHERE k.tenant_id = open.tenant_id AND k.user_id = open.user_id AND k.key = open.key
