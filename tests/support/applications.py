"""Other applications: database roles that submit by `ferryman.enqueue`."""

from __future__ import annotations

import secrets

from ferryman.embedded import EmbeddedPostgres
from ferryman.ledger.grants import add_grant
from tests.support.servers import Database


class Application:
    """A role of its own on a test's database, and the way in as that role."""

    def __init__(self, server: EmbeddedPostgres, database: Database) -> None:
        self.role = f"app_{secrets.token_hex(4)}"
        self._owner_url = database.owner_url
        server.sql(f"CREATE ROLE {self.role} LOGIN PASSWORD 'app'")
        self.url = server.url(self.role, "app", database.name)

    async def granted(self, tenant: str) -> Application:
        """The same, once it submits for this tenant."""
        await add_grant(self._owner_url, self.role, tenant)
        return self
