"""A real Valkey, or Redis, as a child process."""

import secrets
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ferryman.embedded import loopback
from ferryman.embedded.binaries import find_redis
from ferryman.embedded.data_dirs import DataDir
from ferryman.embedded.failures import ServerNotRunningError, ServerStartError, log_size, tail
from ferryman.embedded.processes import ServerProcess, StopMode, wait_until
from ferryman.embedded.secret_files import write_secret

_FOLDER: Final = "redis"
_PORT_TRIES = 5
_PASSING_SECONDS = 2.0
_PING_SECONDS = 1.0
_SIGNALS: dict[StopMode, tuple[signal.Signals, ...]] = {
    "fast": (signal.SIGTERM,),
    "immediate": (signal.SIGTERM,),
    "kill": (),
}


class EmbeddedRedis:
    """A Valkey server of this process: password, no eviction, and nothing on disk but its configuration.

    `data_dir` takes configuration and log; None takes a temporary one, gone after `close`. `binary` is
    another server's program (Redis 7 or later, Valkey). `settings` go by their names in its configuration
    file. Port and password stay the same over the life of the object; the content does not survive a stop.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        binary: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._binary = find_redis(binary)
        self._data = DataDir(data_dir, _FOLDER, None)
        self._port = port
        self._settings = dict(settings or {})
        self._password = secrets.token_urlsafe(24)
        self._process: ServerProcess | None = None

    def start(self, timeout: float = 20.0) -> None:
        """Starts the server and returns when it answers. Does nothing when it is running.

        Raises ServerStartError if it ends or does not answer within `timeout` seconds.
        """
        if self.is_running and loopback.accepts(self.port):
            return
        self.kill()
        tries = _PORT_TRIES if self._port is None else 1
        said = ""
        for _ in range(tries):
            log_before = log_size(self.log)
            port = self._port or loopback.free_port()
            if self._launch(port, timeout):
                self._port = port
                return
            said = tail(self.log, log_before)
            if "Address already in use" not in said:
                break
        raise ServerStartError(f"Redis did not start; the end of {self.log}:\n{said}")

    def stop(self, mode: StopMode = "fast", patience: float = 10.0) -> None:
        """Ends the server and waits for it; "kill" is SIGKILL, as is what comes after `patience` seconds."""
        if self._process is not None:
            self._process.stop(_SIGNALS[mode], patience)
            self._process = None

    def kill(self) -> None:
        """Ends the server by SIGKILL."""
        self.stop("kill")

    def close(self) -> None:
        """Stops the server and removes a temporary data directory."""
        self.stop()
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
        """Waits for the end of a server that somebody else killed; False if `timeout` seconds pass first."""
        return self._process is None or self._process.wait(timeout)

    @property
    def pid(self) -> int:
        """The server's process id. Raises ServerNotRunningError before the start."""
        if self._process is None:
            raise ServerNotRunningError("Redis has not been started: call start()")
        return self._process.pid

    @property
    def port(self) -> int:
        """The port on 127.0.0.1. Raises ServerNotRunningError if the first start is still to choose it."""
        if self._port is None:
            raise ServerNotRunningError("Redis has not been started: call start()")
        return self._port

    @property
    def password(self) -> str:
        """The generated password of the default user."""
        return self._password

    @property
    def url(self) -> str:
        """The `redis://` address of database 0."""
        return f"redis://:{self._password}@{loopback.HOST}:{self.port}/0"

    @property
    def log(self) -> Path:
        """The file that takes what the server prints."""
        return self._data.root / "redis.log"

    def _launch(self, port: int, timeout: float) -> bool:
        wait_until(lambda: port != self._port or loopback.is_free(port), _PASSING_SECONDS)
        configuration = self._data.root / "redis.conf"
        write_secret(configuration, self._configuration(port))
        self._process = ServerProcess(
            [self._binary, configuration], log=self.log, account=None, last_signal="KILL"
        )
        wait_until(lambda: self._answers(port) or not self.is_running, timeout)
        if self.is_running and self._answers(port):
            return True
        self.kill()
        return False

    def _configuration(self, port: int) -> str:
        lines = {
            **self._settings,
            "bind": loopback.HOST,
            "port": str(port),
            "dir": _quoted(str(self._data.own)),
            "requirepass": self._password,
            "protected-mode": "yes",
            "daemonize": "no",
            "maxmemory-policy": "noeviction",
            "save": '""',
            "appendonly": "no",
        }
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def _answers(self, port: int) -> bool:
        """Whether the server on the port takes our password: another one would not."""
        try:
            with socket.create_connection((loopback.HOST, port), _PING_SECONDS) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                return connection.makefile("rb").readline().startswith(b"+OK")
        except OSError:
            return False


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
