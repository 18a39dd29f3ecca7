-- Progress of a running attempt; what is null stays as it is. $1 job, $2 token, $3 percent, $4 note, $5 cursor.
-- No row: the lease was lost.
UPDATE ferryman.jobs
SET progress_percent = coalesce($3, progress_percent), progress_note = coalesce($4, progress_note),
    cursor = coalesce($5, cursor), updated_at = clock_timestamp()
WHERE id = $1 AND claim_token = $2
RETURNING id
