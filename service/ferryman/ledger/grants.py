"""Which database roles may call `ferryman.enqueue`, and for which tenant. Done as the schema's owner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import asyncpg
from msgspec import Struct

from ferryman.ledger.failures import sqlstate, translated
from ferryman.ledger.statements import quoted
from ferryman.ports import LedgerError

MAX_TENANT_CHARS: Final = 50
_CONNECT_SECONDS: Final = 10.0
_REFUSED: Final = "42501"


class GrantError(LedgerError):
    """The grant cannot be made or taken back."""


class Grant(Struct, frozen=True, kw_only=True, rename="camel"):
    """One role and its tenant. `exists`: the server still has the role."""

    db_role: str
    tenant_id: str
    granted_at: datetime
    exists: bool


async def add_grant(url: str, db_role: str, tenant_id: str) -> None:
    """Let this role submit for this tenant, whatever its tenant was. Raises GrantError, LedgerError."""
    if not 1 <= len(tenant_id) <= MAX_TENANT_CHARS:
        raise GrantError(f"a tenant's name has 1 to {MAX_TENANT_CHARS} characters")
    async with _as_owner(url) as connection:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", db_role):
            raise GrantError(f"the server has no role {db_role!r}")
        await connection.execute(_ADD, db_role, tenant_id)
        for right in _RIGHTS:
            await connection.execute(f"GRANT {right} TO {quoted(db_role)}")


async def remove_grant(url: str, db_role: str) -> None:
    """Take the role its tenant and its right to call. Raises GrantError when it had none, LedgerError."""
    async with _as_owner(url) as connection:
        exists = await connection.fetchval(
            "DELETE FROM ferryman.tenant_grants WHERE db_role = $1"
            " RETURNING EXISTS (SELECT FROM pg_roles WHERE rolname = db_role)",
            db_role,
        )
        if exists is None:
            raise GrantError(f"{db_role!r} was granted no tenant")
        for right in _RIGHTS if exists else ():
            await connection.execute(f"REVOKE {right} FROM {quoted(db_role)}")


async def list_grants(url: str) -> list[Grant]:
    """All of them, by role. Raises GrantError, LedgerError."""
    async with _as_owner(url) as connection:
        return [Grant(**row) for row in await connection.fetch(_LIST)]


_RIGHTS: Final = ("EXECUTE ON FUNCTION ferryman.enqueue", "USAGE ON SCHEMA ferryman")
_ADD: Final = """
INSERT INTO ferryman.tenant_grants (db_role, tenant_id) VALUES ($1::name, $2::varchar)
ON CONFLICT (db_role) DO UPDATE SET tenant_id = EXCLUDED.tenant_id, granted_at = now()
"""
_LIST: Final = """
SELECT db_role, tenant_id, granted_at, EXISTS (SELECT FROM pg_roles WHERE rolname = db_role) AS exists
FROM ferryman.tenant_grants ORDER BY db_role
"""


@asynccontextmanager
async def _as_owner(url: str) -> AsyncIterator[Any]:
    """A connection in one transaction."""
    with translated():
        connection = await asyncpg.connect(
            url,
            timeout=_CONNECT_SECONDS,
            command_timeout=_CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings={"application_name": "ferryman-grants"},
        )
        try:
            async with connection.transaction():
                yield connection
        except asyncpg.PostgresError as error:
            if sqlstate(error) != _REFUSED:
                raise
            raise GrantError(f"only the schema's owner grants and takes back: {error}") from error
        finally:
            await connection.close(timeout=_CONNECT_SECONDS)
