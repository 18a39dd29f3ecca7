"""The servers of a test run: the embedded ones, or others whose programs the environment names.

`FERRYMAN_TEST_POSTGRES_BIN` is a folder with another PostgreSQL's programs, `FERRYMAN_TEST_REDIS_BIN` the
program of another Redis, so that one suite runs against several versions.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from ferryman.embedded import EmbeddedPostgres, EmbeddedRedis
from ferryman.embedded.cluster import SERVICE_ROLE, SUPERUSER

START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Database:
    """One database of the test server."""

    name: str
    owner_url: str
    service_url: str


def make_postgres(data_dir: Path | None = None) -> EmbeddedPostgres:
    """A server that is still to be started; without a directory its data go with it."""
    return EmbeddedPostgres(data_dir, bin_dir=_path_from("FERRYMAN_TEST_POSTGRES_BIN"))


def make_redis(data_dir: Path | None = None) -> EmbeddedRedis:
    """A server that is still to be started; tests may send it DEBUG, to make it sleep."""
    settings = {"enable-debug-command": "local"}
    return EmbeddedRedis(data_dir, binary=_path_from("FERRYMAN_TEST_REDIS_BIN"), settings=settings)


@contextmanager
def database_on(server: EmbeddedPostgres, template: str | None = None) -> Iterator[Database]:
    """A database of its own, empty or a copy of `template`, dropped at the end; wakes an ended server."""
    server.start(START_SECONDS)
    name = f"test_{secrets.token_hex(6)}"
    server.create_database(name, template)
    try:
        yield Database(
            name=name,
            owner_url=server.url(SUPERUSER, server.password_of(SUPERUSER), name),
            service_url=server.url(SERVICE_ROLE, server.password_of(SERVICE_ROLE), name),
        )
    finally:
        server.start(START_SECONDS)
        server.drop_database(name)


def flushed(server: EmbeddedRedis) -> str:
    """The server's address, after everything on it is gone; wakes an ended server."""
    server.start(START_SECONDS)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server.url


def _path_from(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None
