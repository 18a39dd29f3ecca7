-- Moves the cursor of each tenant of $1 from transaction $2 and audit row $3 to $4 and $5. A row for each that
-- moved; another process was faster with the others.
UPDATE ferryman.webhook_cursors AS c
SET xid = m.xid::xid8, audit_id = m.audit_id
FROM unnest($1::varchar[], $2::text[], $3::uuid[], $4::text[], $5::uuid[])
    AS m(tenant_id, old_xid, old_id, xid, audit_id)
WHERE c.tenant_id = m.tenant_id AND c.xid = m.old_xid::xid8 AND c.audit_id = m.old_id
RETURNING c.tenant_id
