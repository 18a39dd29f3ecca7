"""Migrations: numbered SQL files, run once each, in order, by one process at a time.

`NNNN_name.before.sql` runs before a deployment of the new code and must suit the old one;
`NNNN_name.after.sql` runs when no old code is left. Needs a direct connection: its lock is the session's.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final, Literal

import asyncpg
from msgspec import Struct

from ferryman.ledger.failures import sqlstate, translated
from ferryman.ledger.statements import quoted
from ferryman.ports import LedgerError, LedgerUnavailableError

Phase = Literal["before", "after", "all"]
Progress = Callable[[str], None]

_NAME: Final = re.compile(r"(\d{4}_[a-z0-9_]+)\.(before|after)\.sql")
_LOCK_KEY: Final = 0x6665_7272  # "ferr"
_LOCK_POLL_SECONDS: Final = 0.2
_LOCK_TRIES: Final = 10
_LOCK_PAUSE_SECONDS: Final = 1.0
_SCHEMA_POLL_SECONDS: Final = 0.5
_CONNECT_SECONDS: Final = 10.0
_BUSY: Final = ("55P03", "40P01", "XX000")  # lock timeout, deadlock, "tuple concurrently updated"


class MigrationError(LedgerError):
    """The schema was left as the last whole migration made it."""


class MigrationLockedError(MigrationError):
    """Somebody else migrates, or holds locks that a migration needs."""


class MigrationMismatchError(MigrationError):
    """The database and this program disagree on what was applied."""


class Migration(Struct, frozen=True):
    """One file."""

    name: str
    phase: Literal["before", "after"]
    sql: str

    @property
    def key(self) -> str:
        """What `schema_migrations` calls it."""
        return f"{self.name}.{self.phase}"

    @property
    def checksum(self) -> str:
        """Of its text; line ends do not count."""
        return hashlib.sha256("\n".join(self.sql.splitlines()).encode()).hexdigest()


class SchemaState(Struct, frozen=True, kw_only=True):
    """How a database stands to this program's migrations, by their keys."""

    applied: list[str]
    pending: list[str]
    changed: list[str]
    unknown: list[str]

    @property
    def is_ready(self) -> bool:
        """Whether this program can work on it: all its `before` files are applied. Newer ones do no harm."""
        return not any(key.endswith(".before") for key in self.pending)


def migrations(folder: Traversable | None = None) -> list[Migration]:
    """The files of this program, in order. Raises ValueError for a misnamed one."""
    found = []
    for entry in (folder or files("ferryman.ledger") / "migrations").iterdir():
        if not entry.name.endswith(".sql"):
            continue
        match = _NAME.fullmatch(entry.name)
        if match is None:
            raise ValueError(f"{entry.name} is no NNNN_name.before.sql or NNNN_name.after.sql")
        phase: Literal["before", "after"] = "before" if match[2] == "before" else "after"
        found.append(Migration(match[1], phase, entry.read_text(encoding="utf-8")))
    return sorted(found, key=lambda one: (one.name, one.phase == "after"))


async def check(url: str, *, folder: Traversable | None = None) -> SchemaState:
    """How the database stands; changes nothing. Raises LedgerUnavailableError."""
    async with _connected(url) as connection:
        return await _state(connection, migrations(folder))


async def read_state(fetch: Callable[[str], Any]) -> SchemaState:
    """As `check`, over a connection that stands: `fetch` takes a statement and answers rows."""
    exists = (await fetch("SELECT to_regclass('ferryman.schema_migrations') IS NOT NULL AS known"))[0][
        "known"
    ]
    rows = await fetch("SELECT key, checksum FROM ferryman.schema_migrations ORDER BY key") if exists else []
    return _compare(migrations(), {row["key"]: row["checksum"] for row in rows})


async def wait_for_schema(url: str, *, within_s: float, progress: Progress | None = None) -> None:
    """Return once the database is there and has what this program needs.

    Raises MigrationError when it has not after `within_s`, LedgerUnavailableError when it was not reached.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        try:
            state = await check(url)
            if state.is_ready:
                return
            refusal: LedgerError = MigrationError(
                f"the database lacks {', '.join(state.pending)}: run `ferryman migrate`"
            )
        except LedgerUnavailableError as error:
            refusal = error
        if loop.time() >= deadline:
            raise refusal
        if progress:
            progress(str(refusal))
        await asyncio.sleep(_SCHEMA_POLL_SECONDS)


async def migrate(
    url: str,
    *,
    phase: Phase = "all",
    service_login: str | None = None,
    lock_wait_s: float = 60.0,
    progress: Progress | None = None,
    folder: Traversable | None = None,
) -> list[str]:
    """Apply what is pending and answer its keys. `service_login` is made a member of the service's role.

    Each file is one transaction. Raises MigrationLockedError, MigrationMismatchError, MigrationError with
    the server's message, LedgerUnavailableError.
    """
    say = progress or (lambda _: None)
    ours = migrations(folder)
    async with _connected(url) as connection:
        await connection.execute("SET client_min_messages = warning")  # IF NOT EXISTS says so each time
        await _lock(connection, lock_wait_s, say)
        await connection.execute(_OWN_TABLE)
        state = await _state(connection, ours)
        _refuse_mismatch(state)
        done = []
        for migration in ours:
            if migration.key in state.pending and phase in ("all", migration.phase):
                say(f"applying {migration.key}")
                await _apply(connection, migration.sql, migration)
                done.append(migration.key)
        if service_login is not None and await _has_service_role(connection):
            await _apply(connection, f"GRANT ferryman_service TO {quoted(service_login)}")
        return done


_OWN_TABLE: Final = """
CREATE SCHEMA IF NOT EXISTS ferryman;
CREATE TABLE IF NOT EXISTS ferryman.schema_migrations (
    key varchar(200) PRIMARY KEY,
    checksum varchar(64) NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    with translated():
        connection = await asyncpg.connect(
            url,
            timeout=_CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings={"application_name": "ferryman-migrate"},
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=_CONNECT_SECONDS)


async def _state(connection: Any, ours: Sequence[Migration]) -> SchemaState:
    exists = await connection.fetchval("SELECT to_regclass('ferryman.schema_migrations') IS NOT NULL")
    rows = await connection.fetch("SELECT key, checksum FROM ferryman.schema_migrations") if exists else []
    return _compare(ours, {row["key"]: row["checksum"] for row in rows})


def _compare(ours: Sequence[Migration], applied: dict[str, str]) -> SchemaState:
    known = {one.key: one.checksum for one in ours}
    return SchemaState(
        applied=sorted(applied),
        pending=[one.key for one in ours if one.key not in applied],
        changed=sorted(key for key, checksum in applied.items() if known.get(key, checksum) != checksum),
        unknown=sorted(key for key in applied if key not in known),
    )


def _refuse_mismatch(state: SchemaState) -> None:
    if state.changed:
        raise MigrationMismatchError(
            f"these files were changed after they were applied: {', '.join(state.changed)}; "
            "restore them and put the change into a new migration"
        )
    if state.unknown:
        raise MigrationMismatchError(
            f"the database is newer than this program: it has {', '.join(state.unknown)}; "
            "migrate with the newest release"
        )


async def _lock(connection: Any, wait_s: float, say: Progress) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    told = False
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        if loop.time() >= deadline:
            raise MigrationLockedError(
                f"another process has been migrating for {wait_s:g} s: try again later"
            )
        if not told:
            say("waiting for another process that migrates")
            told = True
        await asyncio.sleep(_LOCK_POLL_SECONDS)


async def _apply(connection: Any, sql: str, migration: Migration | None = None) -> None:
    """Run a script in one transaction and note the migration; again while its locks are held by others."""
    what = migration.key if migration else "the grant to the service's login"
    for remaining in reversed(range(_LOCK_TRIES)):
        try:
            async with connection.transaction():
                # Waiting longer would make every other statement queue up behind this one.
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                await connection.execute(sql)
                if migration:
                    await connection.execute(
                        "INSERT INTO ferryman.schema_migrations (key, checksum) VALUES ($1, $2)",
                        migration.key,
                        migration.checksum,
                    )
            return
        except asyncpg.PostgresError as error:
            if sqlstate(error) not in _BUSY:
                raise MigrationError(f"{what} failed: {error}") from error
            if not remaining:
                raise MigrationLockedError(f"{what} did not get its locks: {error}") from error
        await asyncio.sleep(_LOCK_PAUSE_SECONDS)


async def _has_service_role(connection: Any) -> bool:
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferryman_service')"
    )
    return found
