-- Drops the day partitions of the audit that end before $1. Answers the rows that went.
SELECT ferryman.drop_audit_days($1::timestamptz) AS rows
