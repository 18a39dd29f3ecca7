-- Keeps a preview: $1 digest, $2 tenant (null: every), $3 letters. Previews older than an hour go.
WITH old AS (
    DELETE FROM ferryman.redrive_previews WHERE created_at < now() - interval '1 hour'
)
INSERT INTO ferryman.redrive_previews (digest, tenant_id, letter_ids) VALUES ($1::varchar, $2::varchar, $3::uuid[])
