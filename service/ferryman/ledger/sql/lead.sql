-- Takes or keeps the leadership of a role. $1 role, $2 holder, $3 milliseconds. No row: somebody else has it.
INSERT INTO ferryman.leaders AS l (role, holder, until)
VALUES ($1, $2, now() + $3::bigint * interval '1 millisecond')
ON CONFLICT (role) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until
WHERE l.holder = EXCLUDED.holder OR l.until < now()
RETURNING role
