-- Gives up the leadership of a role. $1 role, $2 holder.
DELETE FROM ferryman.leaders WHERE role = $1 AND holder = $2
