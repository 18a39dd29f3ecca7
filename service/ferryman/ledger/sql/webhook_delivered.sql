-- Endpoint $1 took an event: its failures are forgotten.
UPDATE ferryman.webhooks SET failures = 0, failing_since = NULL WHERE id = $1::uuid AND failures > 0
