"""PgBouncer in transaction mode, where this machine has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from ferryman.embedded import loopback
from ferryman.embedded.processes import wait_until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

_SETTINGS = """
[databases]
{database} = host={host} port={server_port} user={user} password={password} pool_size={servers}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
"""


@contextmanager
def pooled(url: str, folder: Path, *, servers: int) -> Iterator[str]:
    """The address of a pooler before the database of `url`, with so many connections to the server."""
    assert PROGRAM is not None
    parts, port = urlsplit(url), loopback.free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        _SETTINGS.format(
            database=parts.path[1:],
            host=parts.hostname,
            server_port=parts.port,
            user=parts.username,
            password=parts.password,
            servers=servers,
            port=port,
        )
    )
    account = ["-u", "nobody"] if os.geteuid() == 0 else []  # it does not run as root
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, *account, str(settings)], stdout=log, stderr=log)
        try:
            assert wait_until(lambda: loopback.accepts(port), 10.0), (folder / "pgbouncer.log").read_text()
            yield f"postgresql://{parts.username}:any@127.0.0.1:{port}{parts.path}"
        finally:
            process.terminate()
            process.wait(timeout=10)
