"""Fixtures for all tests: real servers, one pair for a whole run, started when a test first asks for them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.support.servers import START_SECONDS, Database, database_on, flushed, make_postgres, make_redis


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running PostgreSQL; tests take databases of their own on it."""
    server = make_postgres()
    try:
        server.start(START_SECONDS)
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """A running Redis."""
    server = make_redis()
    try:
        server.start(START_SECONDS)
        yield server
    finally:
        server.close()


@pytest.fixture
def fresh_database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """An empty database for one test."""
    with database_on(postgres) as database:
        yield database


@pytest.fixture(scope="module")
def module_database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """An empty database for the tests of one module."""
    with database_on(postgres) as database:
        yield database


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The address of a Redis that is empty at the start of each test."""
    return flushed(redis_server)


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """A directory for a server's data; not `tmp_path`, which root's server, run as `nobody`, cannot enter."""
    directory = Path(tempfile.mkdtemp(prefix="ferryman-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
