"""Migrated databases: one template for a whole run, a copy for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ferryman.embedded import EmbeddedPostgres
from ferryman.embedded.cluster import SERVICE_ROLE
from ferryman.ledger.migrate import migrate
from ferryman.ledger.pool import Pools
from tests.support.servers import Database, database_on


@pytest.fixture(scope="session")
async def ledger_template(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The name of a migrated database that nobody is connected to."""
    with database_on(postgres) as database:
        await migrate(database.owner_url, service_login=SERVICE_ROLE)
        yield database.name


@pytest.fixture
def ledger_database(postgres: EmbeddedPostgres, ledger_template: str) -> Iterator[Database]:
    """A migrated database for one test."""
    with database_on(postgres, ledger_template) as database:
        yield database


@pytest.fixture
async def pools(ledger_database: Database) -> AsyncIterator[Pools]:
    """The service's connections to the test's own migrated database."""
    opened = Pools(ledger_database.service_url)
    yield opened
    await opened.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("schemathesis")
    group.addoption(
        "--schemathesis-seconds", type=int, default=60, help="how long to generate calls (default: 60)"
    )
    group.addoption("--schemathesis-seed", type=int, default=1, help="which calls to generate (default: 1)")
