-- The audit is the log of events. Its rows are read in the order of the transactions that wrote them: below the
-- oldest transaction that still runs nothing more can come, so that nobody who reads on from there misses a row.
-- Rows that are there already count as written by this migration.
ALTER TABLE ferryman.job_audit ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();

-- A tenant's events from a place on, and its audit from the newest back. Rows of one transaction share an entry.
CREATE INDEX job_audit_by_tenant ON ferryman.job_audit (tenant_id, xid);
