"""A real PostgreSQL as a child process."""

import json
import re
import secrets
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from ferryman.embedded import loopback
from ferryman.embedded.accounts import clean_environment, identity, server_account
from ferryman.embedded.binaries import find_postgres, major_version, runnable_by
from ferryman.embedded.data_dirs import DataDir
from ferryman.embedded.failures import (
    DataDirInUseError,
    EmbeddedServerError,
    ServerNotRunningError,
    ServerStartError,
    SqlError,
    log_size,
    tail,
)
from ferryman.embedded.processes import ServerProcess, StopMode, wait_until
from ferryman.embedded.secret_files import write_secret

SUPERUSER: Final = "postgres"
SERVICE_ROLE: Final = "ferryman"
DATABASE: Final = "ferryman"

_CLUSTER: Final = "cluster"
_LAUNCH_TRIES = 5
_PASSING_SECONDS = 2.0
# Somebody took the port before us; or backends of a server killed from outside are still ending.
_PASSING_HINDRANCES = ("Address already in use", "pre-existing shared memory block")
_SQL_SECONDS = 60.0
_PREDECESSOR_SECONDS = 15.0
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_STATUS_LINE = 7  # of postmaster.pid, counted from 0: "ready" once connections are welcome
_SIGNALS: dict[StopMode, tuple[signal.Signals, ...]] = {
    "fast": (signal.SIGINT, signal.SIGQUIT),
    "immediate": (signal.SIGQUIT,),
    "kill": (),
}
_FIRST_SQL = """
SELECT 'CREATE ROLE {role} LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') \\gexec
ALTER ROLE {role} PASSWORD '{password}';
SELECT 'CREATE DATABASE {database}' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{database}') \\gexec
"""


class EmbeddedPostgres:
    """A PostgreSQL server of this process, with the database `ferryman` and its service role.

    `data_dir` keeps cluster, passwords and log between starts; None takes a temporary one, gone after `close`.
    `bin_dir` is a folder with another PostgreSQL's programs (15 or later). `settings` are lines of postgresql.conf.
    Root's server runs as `nobody`. The port stays the same over the life of the object.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        bin_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._account = server_account()
        self._programs = find_postgres(bin_dir)
        self._data = DataDir(data_dir, _CLUSTER, self._account)
        self._port = port
        self._settings = dict(settings or {})
        self._process: ServerProcess | None = None
        self._passwords: dict[str, str] = {}

    def start(self, timeout: float = 60.0) -> None:
        """Starts the server and returns when it answers; at the first start of a data directory it makes the cluster.

        Raises ServerStartError if it ends or is not ready within `timeout` seconds, DataDirInUseError if another
        server runs on the same data directory. Does nothing when it is running.
        """
        if self.is_running:
            return
        self._reap()
        programs = runnable_by(self._account, self._programs, self._data.root / "programs" / "postgres")
        self._passwords = self._load_passwords()
        if not (self._data.own / "PG_VERSION").exists():
            self._make_cluster(programs)
        self._wait_for_predecessor()
        self._launch(programs, timeout)
        self._provide_database()

    def stop(self, mode: StopMode = "fast", patience: float = 30.0) -> None:
        """Ends the server and waits for it; the data stay.

        "fast" rolls back what is open and writes a checkpoint, "immediate" leaves recovery to the next start, "kill"
        is SIGKILL for the whole tree. What has not ended after `patience` seconds is killed.
        """
        if self._process is not None:
            self._process.stop(_SIGNALS[mode], patience)
            self._process = None

    def kill(self) -> None:
        """Ends the server and its children by SIGKILL."""
        self.stop("kill")

    def close(self) -> None:
        """Stops the server and removes a temporary data directory."""
        self.stop("immediate" if self._data.is_temporary else "fast")
        self._data.remove()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_running(self) -> bool:
        """Whether the server has been started and has not ended."""
        return self._process is not None and self._process.is_running()

    def wait(self, timeout: float) -> bool:
        """Waits until the server, killed by somebody else, has ended; False when `timeout` seconds pass first."""
        return self._process is None or self._process.wait(timeout)

    @property
    def pid(self) -> int:
        """The process id of the postmaster. Raises ServerNotRunningError before the start."""
        if self._process is None:
            raise ServerNotRunningError("PostgreSQL has not been started: call start()")
        return self._process.pid

    @property
    def port(self) -> int:
        """The port on 127.0.0.1. Raises ServerNotRunningError if it is chosen by the first start, still to come."""
        if self._port is None:
            raise ServerNotRunningError("PostgreSQL has not been started: call start()")
        return self._port

    @property
    def log(self) -> Path:
        """The file that takes what the server prints."""
        return self._data.root / "postgres.log"

    @property
    def owner_url(self) -> str:
        """The administrator's way into the database `ferryman`: migrations, tests, the person at the machine."""
        return self.url(SUPERUSER, self.password_of(SUPERUSER), DATABASE)

    @property
    def service_url(self) -> str:
        """The service's own way into the database `ferryman`: neither superuser nor owner."""
        return self.url(SERVICE_ROLE, self.password_of(SERVICE_ROLE), DATABASE)

    def url(self, role: str, password: str, database: str) -> str:
        """A `postgresql://` address of this server."""
        return f"postgresql://{quote(role)}:{quote(password, safe='')}@{loopback.HOST}:{self.port}/{quote(database)}"

    def password_of(self, role: str) -> str:
        """The generated password of `postgres` or `ferryman`. Raises ServerNotRunningError before the first start."""
        try:
            return self._passwords[role]
        except KeyError:
            raise ServerNotRunningError(f"no password of {role} yet: call start()") from None

    def create_database(self, name: str, template: str | None = None) -> None:
        """Creates a database owned by the administrator: empty, or a copy of `template`, to which nobody is connected.

        Raises SqlError if it exists.
        """
        copy = f" TEMPLATE {_checked(template)}" if template else ""
        self.sql(f"CREATE DATABASE {_checked(name)}{copy};")

    def drop_database(self, name: str) -> None:
        """Drops a database, ending its connections; none of that name is no error."""
        self.sql(f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE);")

    def sql(self, statements: str, database: str = "postgres") -> str:
        """Runs statements as the administrator through psql; answers the rows, tab-separated, without headings.

        Raises SqlError with the server's message at the first statement that fails.
        """
        command = [
            self._programs / "psql",
            *(
                "--no-psqlrc",
                "--quiet",
                "--no-align",
                "--tuples-only",
                "--field-separator=\t",
                "--no-password",
            ),
            *("--set=ON_ERROR_STOP=1", f"--host={loopback.HOST}", f"--port={self.port}"),
            *(f"--username={SUPERUSER}", f"--dbname={database}", "--file=-"),
        ]
        environment = {"PGPASSWORD": self.password_of(SUPERUSER), "PGCONNECT_TIMEOUT": "10"}
        try:
            finished = subprocess.run(
                command,
                input=statements,
                capture_output=True,
                encoding="utf-8",
                cwd="/",
                env=clean_environment() | environment,
                timeout=_SQL_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise SqlError(f"no answer within {_SQL_SECONDS:.0f} s") from error
        if finished.returncode != 0:
            raise SqlError(finished.stderr.strip())
        return finished.stdout.rstrip("\n")

    def _load_passwords(self) -> dict[str, str]:
        path = self._data.root / "passwords.json"
        if not path.exists():
            write_secret(
                path, json.dumps({role: secrets.token_urlsafe(24) for role in (SUPERUSER, SERVICE_ROLE)})
            )
        return {str(role): str(password) for role, password in json.loads(path.read_text()).items()}

    def _make_cluster(self, programs: Path) -> None:
        for locale in _locales(major_version(self._programs)):
            finished = self._run_initdb(programs, locale)
            if finished.returncode == 0:
                return
        raise ServerStartError(
            f"initdb failed in {self._data.own}:\n{finished.stdout}{finished.stderr}".rstrip()
        )

    def _run_initdb(self, programs: Path, locale: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        # Beside the cluster's folder nobody may write; inside it, initdb wants to find nothing.
        password_file = self._data.root / "initdb.password"
        write_secret(password_file, self.password_of(SUPERUSER) + "\n", self._account)
        haste = ("--no-sync",) if self._data.is_temporary else ()
        try:
            return subprocess.run(
                [
                    programs / "initdb",
                    *(f"--pgdata={self._data.own}", f"--username={SUPERUSER}", f"--pwfile={password_file}"),
                    *("--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums", *locale, *haste),
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd="/",
                env=clean_environment(),
                timeout=120.0,
                **identity(self._account),
            )
        finally:
            password_file.unlink(missing_ok=True)

    def _wait_for_predecessor(self) -> None:
        # A server whose parent was killed a moment ago is on its way out; its guard has seen to that.
        if not wait_until(lambda: self._other_server() is None, _PREDECESSOR_SECONDS):
            raise DataDirInUseError(
                f"the server with process id {self._other_server()} runs on {self._data.root}: "
                "stop it, or choose another data directory"
            )

    def _other_server(self) -> int | None:
        """The process id of a live postmaster that holds our cluster's lock file, if the system tells."""
        try:
            pid = int(self._lock_file_lines()[0])
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (OSError, ValueError, IndexError):
            return None
        return pid if name in ("postgres", "postmaster") else None

    def _lock_file_lines(self) -> list[str]:
        return (self._data.own / "postmaster.pid").read_text().splitlines()

    def _launch(self, programs: Path, timeout: float) -> None:
        said = ""
        for _ in range(_LAUNCH_TRIES):
            log_before = log_size(self.log)
            port = self._port or loopback.free_port()
            if self._run_until_ready(programs, port, timeout):
                self._port = port
                return
            said = tail(self.log, log_before)
            if not any(hindrance in said for hindrance in _PASSING_HINDRANCES):
                break
        raise ServerStartError(f"PostgreSQL did not start; the end of {self.log}:\n{said}")

    def _run_until_ready(self, programs: Path, port: int, timeout: float) -> bool:
        wait_until(lambda: loopback.is_free(port), _PASSING_SECONDS)
        self._process = self._spawn(programs, port)
        wait_until(lambda: self._is_ready() or not self.is_running, timeout)
        if self._is_ready() and self.is_running:
            return True
        self._reap()
        return False

    def _spawn(self, programs: Path, port: int) -> ServerProcess:
        settings = {
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._settings,
            "listen_addresses": loopback.HOST,
            "port": str(port),
            "unix_socket_directories": "",
            "fsync": "on",
            "full_page_writes": "on",
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        command: list[str | Path] = [programs / "postgres", "-D", self._data.own, *options]
        return ServerProcess(command, log=self.log, account=self._account, last_signal="QUIT")

    def _is_ready(self) -> bool:
        try:
            lines = self._lock_file_lines()
            return int(lines[0]) == self.pid and lines[_STATUS_LINE].strip() == "ready"
        except (OSError, ValueError, IndexError):
            return False

    def _provide_database(self) -> None:
        password = self.password_of(SERVICE_ROLE)
        try:
            self.sql(_FIRST_SQL.format(role=SERVICE_ROLE, password=password, database=DATABASE))
        except EmbeddedServerError as error:
            self.stop("immediate")
            raise ServerStartError(
                f"PostgreSQL started, but its database could not be made: {error}"
            ) from error

    def _reap(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None


def _locales(major: int) -> list[tuple[str, ...]]:
    """Options of initdb for text that sorts by code point and knows Unicode's letters, best first."""
    if major >= 17:
        return [("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")]
    return [("--locale=C.UTF-8",), ("--locale=C",)]


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no database name: lower-case letters, digits and underscores, 63 at most"
        )
    return name
