"""A real PostgreSQL as a child process."""

import re
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from ferryman.embedded import loopback
from ferryman.embedded.accounts import server_account
from ferryman.embedded.binaries import find_postgres, runnable_by
from ferryman.embedded.cluster import DATABASE, SERVICE_ROLE, SUPERUSER, Cluster
from ferryman.embedded.failures import (
    DataDirInUseError,
    ServerNotRunningError,
    ServerStartError,
    SqlError,
    log_size,
    tail,
)
from ferryman.embedded.processes import ServerProcess, StopMode, wait_until
from ferryman.embedded.psql import Psql

_LAUNCH_TRIES = 5
_PASSING_SECONDS = 2.0
# Somebody took the port before us; or backends of a server killed from outside are still ending.
_PASSING_HINDRANCES = ("Address already in use", "pre-existing shared memory block")
_PREDECESSOR_SECONDS = 15.0
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SIGNALS: dict[StopMode, tuple[signal.Signals, ...]] = {
    "fast": (signal.SIGINT, signal.SIGQUIT),
    "immediate": (signal.SIGQUIT,),
    "kill": (),
}
_DEFAULTS = {"max_connections": "200", "timezone": "UTC", "log_timezone": "UTC"}
_FIXED = {
    "listen_addresses": loopback.HOST,
    "unix_socket_directories": "",
    "fsync": "on",
    "full_page_writes": "on",
}
_FIRST_SQL = """
SELECT 'CREATE ROLE {role} LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') \\gexec
ALTER ROLE {role} PASSWORD '{password}';
SELECT 'CREATE DATABASE {database}'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{database}') \\gexec
"""


class EmbeddedPostgres:
    """A PostgreSQL server of this process, with the database `ferryman` and its service role.

    `data_dir` keeps cluster, passwords and log between starts; None takes a temporary one, gone after
    `close`. `bin_dir` is a folder with another PostgreSQL's programs (15 or later). `settings` go by their
    names in postgresql.conf; what makes commits durable cannot be changed. Root's server runs as `nobody`.
    The port stays the same over the life of the object.
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
        self._cluster = Cluster(data_dir, self._account)
        self._port = port
        self._settings = dict(settings or {})
        self._process: ServerProcess | None = None
        self._passwords: dict[str, str] = {}

    def start(self, timeout: float = 60.0) -> None:
        """Starts the server and returns when it answers; does nothing when it is running.

        The first start on a data directory makes the cluster. Raises ServerStartError if the server ends or
        is not ready within `timeout` seconds, DataDirInUseError if another one runs on the same directory.
        """
        if self.is_running and loopback.accepts(self.port):
            return
        self.kill()
        programs = runnable_by(self._account, self._programs, self._cluster.root / "programs" / "postgres")
        self._passwords = self._cluster.passwords()
        self._cluster.provide(programs)
        self._wait_for_predecessor()
        self._launch(programs, timeout)
        self._provide_database()

    def stop(self, mode: StopMode = "fast", patience: float = 30.0) -> None:
        """Ends the server and waits for it; the data stay.

        "fast" rolls back what is open and writes a checkpoint, "immediate" leaves recovery to the next
        start, "kill" is SIGKILL for the whole tree, as is what follows after `patience` seconds.
        """
        if self._process is not None:
            self._process.stop(_SIGNALS[mode], patience)
            self._process = None

    def kill(self) -> None:
        """Ends the server and its children by SIGKILL."""
        self.stop("kill")

    def close(self) -> None:
        """Stops the server and removes a temporary data directory."""
        self.stop("immediate" if self._cluster.is_temporary else "fast")
        self._cluster.remove()

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

    def wait(self, timeout: float) -> bool:
        """Waits for the end of a server that somebody else killed; False if `timeout` seconds pass first."""
        return self._process is None or self._process.wait(timeout)

    @property
    def is_running(self) -> bool:
        """Whether the server has been started and has not ended."""
        return self._process is not None and self._process.is_running()

    @property
    def pid(self) -> int:
        """The process id of the postmaster. Raises ServerNotRunningError before the start."""
        if self._process is None:
            raise ServerNotRunningError("PostgreSQL has not been started: call start()")
        return self._process.pid

    @property
    def port(self) -> int:
        """The port on 127.0.0.1. Raises ServerNotRunningError if the first start is still to choose it."""
        if self._port is None:
            raise ServerNotRunningError("PostgreSQL has not been started: call start()")
        return self._port

    @property
    def log(self) -> Path:
        """The file that takes what the server prints."""
        return self._cluster.root / "postgres.log"

    @property
    def owner_url(self) -> str:
        """The administrator's way into the database `ferryman`: for migrations and for looking around."""
        return self.url(SUPERUSER, self.password_of(SUPERUSER), DATABASE)

    @property
    def service_url(self) -> str:
        """The service's own way into the database `ferryman`: neither superuser nor owner."""
        return self.url(SERVICE_ROLE, self.password_of(SERVICE_ROLE), DATABASE)

    def url(self, role: str, password: str, database: str) -> str:
        """A `postgresql://` address of this server."""
        login = f"{quote(role, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@{loopback.HOST}:{self.port}/{quote(database, safe='')}"

    def password_of(self, role: str) -> str:
        """The generated password of `postgres` or `ferryman`. Raises ServerNotRunningError before a start."""
        try:
            return self._passwords[role]
        except KeyError:
            raise ServerNotRunningError(f"no password of {role} yet: call start()") from None

    def create_database(self, name: str, template: str | None = None) -> None:
        """Creates a database owned by the administrator: empty, or a copy of `template`.

        Raises SqlError if it exists, or if somebody is connected to the template.
        """
        copy = f" TEMPLATE {_checked(template)}" if template else ""
        self.sql(f"CREATE DATABASE {_checked(name)}{copy};")

    def drop_database(self, name: str) -> None:
        """Drops a database, ending its connections; none of that name is no error."""
        self.sql(f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE);")

    def sql(self, statements: str, database: str = "postgres") -> str:
        """Runs statements as the administrator; answers the rows without headings, columns split by tabs.

        Each statement commits by itself. Raises SqlError with the server's message at the first that fails.
        """
        psql = Psql(self._programs, self.port, SUPERUSER, self.password_of(SUPERUSER))
        return psql.run(statements, database)

    def _wait_for_predecessor(self) -> None:
        # A server whose parent was killed a moment ago is on its way out; its guard has seen to that.
        if not wait_until(lambda: self._cluster.live_postmaster() is None, _PREDECESSOR_SECONDS):
            raise DataDirInUseError(
                f"the server with process id {self._cluster.live_postmaster()} runs on {self._cluster.root}: "
                "stop it, or choose another data directory"
            )

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
        # A port that we had before may still be held by what is left of our last server.
        wait_until(lambda: port != self._port or loopback.is_free(port), _PASSING_SECONDS)
        settings = _DEFAULTS | self._settings | _FIXED | {"port": str(port)}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        command: list[str | Path] = [programs / "postgres", "-D", self._cluster.folder, *options]
        process = ServerProcess(command, log=self.log, account=self._account, last_signal="QUIT")
        self._process = process
        wait_until(lambda: self._cluster.is_ready(process.pid) or not process.is_running(), timeout)
        if self._cluster.is_ready(process.pid) and process.is_running():
            return True
        self.kill()
        return False

    def _provide_database(self) -> None:
        password = self.password_of(SERVICE_ROLE)
        try:
            self.sql(_FIRST_SQL.format(role=SERVICE_ROLE, password=password, database=DATABASE))
        except SqlError as error:
            self.stop("immediate")
            raise ServerStartError(
                f"PostgreSQL started, but its database could not be made: {error}"
            ) from error


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no database name: lower-case letters, digits and underscores, 63 at most"
        )
    return name
