-- The audit's day partitions for the week ahead.
SELECT ferryman.ensure_audit_partitions(7)
