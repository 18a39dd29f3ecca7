"""Connections to PostgreSQL: a few held ones for the hot statements, others for reads.

A connection is dialled when it is first needed and again after it broke, and is never reset between uses:
nothing here changes session state, so the reset query that a general pool sends each time is spared.

`Pools.as_tenant` is the one way behind the wall: there each use is a transaction under the role that
row-level security shows one tenant's rows alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import asyncpg

from ferryman.ledger.failures import is_data_error, is_foreign, translate, translated
from ferryman.ports import LedgerUnavailableError

CONNECT_SECONDS: Final = 2.0
WAIT_SECONDS: Final = 2.0
COMMAND_SECONDS: Final = 5.0
READ_STATEMENT_SECONDS: Final = 3.0
SHARDS: Final = 64
# After a failed dial everybody fails at once for this long, so that callers do not pile up behind it.
_REFUSE_SECONDS: Final = 0.1
_SYNC_REP_FUNCTION: Final = "SyncRepWaitForLSN"

# Why: engine, section 5. Plans must not follow stale statistics, and must be made once.
HOT_SETTINGS: Final[Mapping[str, str]] = {
    # Only ends what a client that is gone left behind: the client's own limit is shorter.
    "statement_timeout": "10s",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
}
# Pages of a list walk their index in its order and stop: a sort of a tenant's whole rows must not win.
READ_SETTINGS: Final[Mapping[str, str]] = {
    **HOT_SETTINGS,
    "statement_timeout": f"{READ_STATEMENT_SECONDS:.0f}s",
}
_KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", 5),
    ("TCP_KEEPINTVL", 2),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 10_000),
)


# One simple message, so that stepping behind the wall costs no more round trips than BEGIN alone. The tenant
# travels as hex: a simple message has no parameters.
_STEP_BEHIND: Final = (
    "BEGIN; SET LOCAL ROLE ferryman_tenant;"
    " SELECT set_config('ferryman.tenant', convert_from('\\x{}'::bytea, 'UTF8'), true)"
)


class Held:
    """A connection for the time of one `async with`. `shard` is its own row set in statistics."""

    __slots__ = ("_connection", "_is_walled", "shard", "unreplicated")

    def __init__(self, connection: Any, shard: int) -> None:
        self._connection = connection
        self._is_walled = False
        self.shard = shard
        # Set when the server warned that a COMMIT no longer waits for its synchronous standby.
        self.unreplicated = False

    async def fetch(self, sql: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Every row. Raises what the driver raises."""
        rows: list[Any] = await self._connection.fetch(sql, *args, timeout=timeout)
        return rows

    async def fetchrow(self, sql: str, *args: Any, timeout: float | None = None) -> Any:
        """The first row or None. Raises what the driver raises."""
        return await self._connection.fetchrow(sql, *args, timeout=timeout)

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> str:
        """The command tag. Raises what the driver raises."""
        tag: str = await self._connection.execute(sql, *args, timeout=timeout)
        return tag

    def transaction(self) -> Any:
        """An `async with` block that commits at its end or rolls back. Behind the wall all is one already."""
        return contextlib.nullcontext() if self._is_walled else self._connection.transaction()

    @asynccontextmanager
    async def behind_wall(self, tenant_id: str) -> AsyncIterator[None]:
        """One transaction in which row-level security shows this tenant's rows alone."""
        await self._connection.execute(_STEP_BEHIND.format(tenant_id.encode().hex()))
        self._is_walled = True
        try:
            yield
        except BaseException as error:
            if _is_answer(error):
                await self._connection.execute("ROLLBACK")
            raise
        else:
            await self._connection.execute("COMMIT")
        finally:
            self._is_walled = False


class _Slot:
    """A place for one connection, which may be missing or broken."""

    __slots__ = ("connection", "held", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.connection: Any = None
        self.held: Held | None = None

    def note(self, _: Any, message: Any) -> None:
        if self.held and getattr(message, "server_source_function", None) == _SYNC_REP_FUNCTION:
            self.held.unreplicated = True

    def drop(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.terminate()


class Reach(ABC):
    """Where statements go. `reading`: a statement that was cancelled was too long."""

    def __init__(self, *, reading: bool) -> None:
        self.reading = reading

    @abstractmethod
    def held(self, *, fresh: bool = False) -> AbstractAsyncContextManager[Held]:
        """A connection for the block; `fresh` dials a new one first.

        Raises LedgerUnavailableError while none can be had, and then nothing was sent. Errors inside the
        block pass through as they are; any but an answer of the server costs the connection.
        """

    async def fetch(self, sql: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Every row of one statement. Raises LedgerError."""
        with translated(reading=self.reading):
            async with self.held() as connection:
                return await connection.fetch(sql, *args, timeout=timeout)

    async def fetchrow(self, sql: str, *args: Any, timeout: float | None = None) -> Any:
        """The first row of one statement, or None. Raises LedgerError."""
        with translated(reading=self.reading):
            async with self.held() as connection:
                return await connection.fetchrow(sql, *args, timeout=timeout)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Held]:
        """One transaction over the block. Raises LedgerError."""
        with translated(reading=self.reading):
            async with self.held() as connection, connection.transaction():
                yield connection


class Connections(Reach):
    """At most `count` connections, the one used last first."""

    def __init__(
        self, dial: Callable[[], Awaitable[Any]], *, count: int, shard: int, reading: bool = False
    ) -> None:
        super().__init__(reading=reading)
        self._dial = dial
        self._slots = [_Slot(index) for index in range(count)]
        self._free: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()
        for slot in reversed(self._slots):
            self._free.put_nowait(slot)
        self._shard = shard
        self._refuse_until = 0.0
        self._closed = False

    @property
    def count(self) -> int:
        """How many connections there may be."""
        return len(self._slots)

    @asynccontextmanager
    async def held(self, *, fresh: bool = False) -> AsyncIterator[Held]:
        """As `Reach.held`."""
        slot = await self._take()
        try:
            if fresh:
                slot.drop()
            await self._provide(slot)
            slot.held = Held(slot.connection, (self._shard + slot.index) % SHARDS)
            try:
                yield slot.held
            except BaseException as error:
                if not _is_answer(error):
                    slot.drop()
                raise
            finally:
                slot.held = None
                if slot.connection is not None and slot.connection.is_in_transaction():
                    slot.drop()
        finally:
            self._free.put_nowait(slot)

    async def close(self) -> None:
        """Close every connection; uses under way lose theirs."""
        self._closed = True
        for slot in self._slots:
            connection, slot.connection = slot.connection, None
            if connection is not None:
                with contextlib.suppress(Exception):
                    await connection.close(timeout=CONNECT_SECONDS)

    async def _take(self) -> _Slot:
        if self._closed:
            raise LedgerUnavailableError("the ledger is closed")
        with contextlib.suppress(asyncio.QueueEmpty):
            return self._free.get_nowait()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._free.get()
        except TimeoutError:
            raise LedgerUnavailableError("every connection to the ledger is busy") from None

    async def _provide(self, slot: _Slot) -> None:
        if slot.connection is not None and not slot.connection.is_closed():
            return
        slot.connection = None
        clock = asyncio.get_running_loop().time
        if clock() < self._refuse_until:
            raise LedgerUnavailableError("the ledger cannot be reached")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                slot.connection = await self._dial()
        except Exception as error:
            self._refuse_until = clock() + _REFUSE_SECONDS
            if not is_foreign(error):
                raise
            raise LedgerUnavailableError(str(translate(error))) from error
        slot.connection.add_log_listener(slot.note)


class _Walled(Reach):
    """The same connections, each use behind one tenant's wall."""

    def __init__(self, connections: Connections, tenant_id: str) -> None:
        super().__init__(reading=connections.reading)
        self._connections = connections
        self._tenant_id = tenant_id

    @asynccontextmanager
    async def held(self, *, fresh: bool = False) -> AsyncIterator[Held]:
        """As `Reach.held`; the block is one transaction."""
        async with self._connections.held(fresh=fresh) as connection, connection.behind_wall(self._tenant_id):
            yield connection


class Reaches:
    """Both kinds of connections: `hot` for what must be fast and for changes, `read` for reads."""

    def __init__(self, hot: Reach, read: Reach) -> None:
        self.hot = hot
        self.read = read


class Pools(Reaches):
    """Every connection of one process or thread to one database.

    `hot` holds `connections` of them with the planner settings of engine, section 5; `read` has
    `readers` with a statement timeout. Behind a pooler in transaction mode (`pooler`) no statement is
    prepared by name and no setting is sent at connect: there they come from ALTER ROLE.
    `shard` (0 to 63) keeps this process's statistics rows apart from others'.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 3,
        readers: int = 4,
        shard: int = 0,
        application_name: str = "ferryman",
        pooler: bool = False,
    ) -> None:
        self._url = url
        self._name = application_name
        self._pooler = pooler
        self.shard = shard % SHARDS
        self._hot = Connections(lambda: self._dial(HOT_SETTINGS), count=connections, shard=shard)
        self._read = Connections(lambda: self._dial(READ_SETTINGS), count=readers, shard=shard, reading=True)
        super().__init__(self._hot, self._read)

    def as_tenant(self, tenant_id: str | None) -> Reaches:
        """The same connections behind the wall of one tenant; None, which only the engine and calls across
        tenants may give, is no wall.
        """
        if tenant_id is None:
            return self
        return Reaches(_Walled(self._hot, tenant_id), _Walled(self._read, tenant_id))

    async def close(self) -> None:
        """Close every connection."""
        await self._hot.close()
        await self._read.close()

    async def _dial(self, settings: Mapping[str, str]) -> Any:
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            statement_cache_size=0 if self._pooler else 200,
            max_cached_statement_lifetime=0,
            max_cacheable_statement_size=0,
            server_settings={"application_name": self._name, **({} if self._pooler else settings)},
        )
        _keep_alive(connection)
        return connection


def _is_answer(error: BaseException) -> bool:
    """Whether the connection is as good as before: the server answered, or nothing was sent."""
    return not isinstance(error, asyncio.CancelledError) and (
        isinstance(error, asyncpg.PostgresError) or is_data_error(error) or not is_foreign(error)
    )


def _keep_alive(connection: Any) -> None:
    """Let the kernel notice a server that has gone without a word."""
    # The driver shows its socket nowhere else; without it only the command timeout would notice.
    raw = connection._transport.get_extra_info("socket")
    if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        if hasattr(socket, option):
            raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
