"""What a PostgreSQL server keeps on disk: cluster, passwords, and the lock file that tells its state."""

import json
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ferryman.embedded.accounts import Account, clean_environment, identity
from ferryman.embedded.binaries import major_version
from ferryman.embedded.data_dirs import DataDir
from ferryman.embedded.failures import ServerStartError
from ferryman.embedded.secret_files import write_secret

SUPERUSER: Final = "postgres"
SERVICE_ROLE: Final = "ferryman"
DATABASE: Final = "ferryman"

_FOLDER: Final = "cluster"
_INITDB_SECONDS = 120.0
_STATUS_LINE = 7  # of postmaster.pid, counted from 0: "ready" once connections are welcome


class Cluster:
    """A PostgreSQL cluster in a data directory, beside its server's log and the passwords of its roles."""

    def __init__(self, given: Path | None, account: Account | None) -> None:
        self._account = account
        self._data = DataDir(given, _FOLDER, account)
        self.root = self._data.root
        self.folder = self._data.own
        self.is_temporary = self._data.is_temporary

    def passwords(self) -> dict[str, str]:
        """The passwords of administrator and service role, generated at the first call and kept."""
        path = self.root / "passwords.json"
        if not path.exists():
            generated = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, SERVICE_ROLE)}
            write_secret(path, json.dumps(generated))
        return {str(role): str(password) for role, password in json.loads(path.read_text()).items()}

    def provide(self, programs: Path) -> None:
        """Makes the cluster unless it is there. Raises ServerStartError with what initdb says."""
        if (self.folder / "PG_VERSION").exists():
            return
        said = ""
        for locale in _locales(major_version(programs)):
            # In a draft, so that what a killed initdb leaves behind is not taken for a cluster.
            draft = self._data.fresh_folder(f"{_FOLDER}.new")
            finished = self._run_initdb(programs, draft, locale)
            if finished.returncode == 0:
                draft.replace(self.folder)
                return
            said = finished.stdout + finished.stderr
        raise ServerStartError(f"initdb failed in {self.root}:\n{said.rstrip()}")

    def remove(self) -> None:
        """Removes everything if the directory is temporary."""
        self._data.remove()

    def is_ready(self, pid: int) -> bool:
        """Whether the postmaster with this process id takes connections."""
        try:
            lines = self._lock_file_lines()
            return int(lines[0]) == pid and lines[_STATUS_LINE].strip() == "ready"
        except (OSError, ValueError, IndexError):
            return False

    def live_postmaster(self) -> int | None:
        """The process id of a running postmaster that holds the lock file, where the system tells (Linux)."""
        try:
            pid = int(self._lock_file_lines()[0])
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (OSError, ValueError, IndexError):
            return None
        return pid if name in ("postgres", "postmaster") else None

    def _lock_file_lines(self) -> list[str]:
        return (self.folder / "postmaster.pid").read_text().splitlines()

    def _run_initdb(
        self, programs: Path, folder: Path, locale: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        password_file = self.root / "initdb.password"
        write_secret(password_file, self.passwords()[SUPERUSER] + "\n", self._account)
        command: list[str | Path] = [
            programs / "initdb",
            *(f"--pgdata={folder}", f"--username={SUPERUSER}", f"--pwfile={password_file}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums", *locale),
            *(["--no-sync"] if self.is_temporary else []),
        ]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd="/",
                env=clean_environment(),
                timeout=_INITDB_SECONDS,
                **identity(self._account),
            )
        finally:
            password_file.unlink(missing_ok=True)


def _locales(major: int) -> list[tuple[str, ...]]:
    """Options of initdb for text that sorts by code point and knows Unicode's letters, best first."""
    if major >= 17:
        return [("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")]
    return [("--locale=C.UTF-8",), ("--locale=C",)]
