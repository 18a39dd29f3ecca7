-- A key whose try stored nothing is free again. $1 tenant, $2 user, $3 key, $4 when that try began: another
-- try that has taken over since keeps it. No rows.
DELETE FROM ferryman.idempotency_keys
WHERE tenant_id = $1 AND user_id = $2 AND key = $3 AND tried_at = $4 AND status IS NULL
