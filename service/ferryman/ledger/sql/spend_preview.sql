-- Spends the preview with digest $1 of tenant $2 (null: every). No row: unknown, spent, too old or another's.
UPDATE ferryman.redrive_previews
SET spent_at = now()
WHERE digest = $1::varchar AND tenant_id IS NOT DISTINCT FROM $2::varchar AND spent_at IS NULL
    AND created_at >= now() - interval '1 hour'
RETURNING letter_ids
