"""SQL through psql: setting up a server needs no driver, and only the ledger may have one."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ferryman.embedded.accounts import clean_environment
from ferryman.embedded.failures import SqlError
from ferryman.embedded.loopback import HOST

_SECONDS = 60.0
_FORMAT = ("--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--field-separator=\t", "--no-password")


@dataclass(frozen=True, slots=True)
class Psql:
    """Runs statements as one role on one server."""

    programs: Path
    port: int
    role: str
    password: str

    def run(self, statements: str, database: str) -> str:
        """Answers the rows without headings, columns split by tabs; each statement commits by itself.

        Raises SqlError with the server's message at the first that fails.
        """
        address = (f"--host={HOST}", f"--port={self.port}", f"--username={self.role}", f"--dbname={database}")
        command: list[str | Path] = [self.programs / "psql", *_FORMAT, *address]
        try:
            finished = subprocess.run(
                [*command, "--set=ON_ERROR_STOP=1", "--file=-"],
                input=statements,
                capture_output=True,
                encoding="utf-8",
                cwd="/",
                env=clean_environment() | {"PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "10"},
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise SqlError(f"no answer within {_SECONDS:.0f} s") from error
        if finished.returncode != 0:
            raise SqlError(finished.stderr.strip())
        return finished.stdout.rstrip("\n")
