"""The ledger as a whole: every store over one set of connections."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from ferryman.core.job import Position
from ferryman.ledger.attempts import Attempts
from ferryman.ledger.audit import Audit
from ferryman.ledger.changes import Changes
from ferryman.ledger.dead_letters import DeadLetters
from ferryman.ledger.events import Events
from ferryman.ledger.idempotency import IdempotencyKeys
from ferryman.ledger.lookup import Lookup
from ferryman.ledger.migrate import read_state
from ferryman.ledger.pool import SHARDS, Pools
from ferryman.ledger.positions import read_positions
from ferryman.ledger.queues import Queues
from ferryman.ledger.reports import LedgerReports
from ferryman.ledger.retention import LedgerRetention
from ferryman.ledger.submissions import Submissions
from ferryman.ledger.upkeep import LedgerUpkeep
from ferryman.ledger.webhooks import Webhooks
from ferryman.ledger.workers import Workers
from ferryman.ports import (
    AttemptStore,
    AuditStore,
    DeadLetterStore,
    EventStore,
    JobStore,
    KeyStore,
    QueueStore,
    Reports,
    RetentionStore,
    Upkeep,
    WebhookStore,
    WorkerStore,
)
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics


class Jobs(Submissions, Lookup, Changes):
    """`JobStore` on PostgreSQL: submission, reading and changing, each a class of its own."""

    async def positions(self, job_ids: Sequence[UUID]) -> list[Position]:
        """As `JobStore.positions`."""
        return await read_positions(self._pools, job_ids)


class PostgresLedger:
    """`Ledger` on PostgreSQL."""

    def __init__(self, pools: Pools, metrics: Metrics | None = None) -> None:
        counted = metrics or Metrics()
        self._pools = pools
        self._submissions = Jobs(pools, on_doubt=lambda: counted.count(names.IN_DOUBT_TOTAL))
        self.jobs: JobStore = self._submissions
        self.attempts: AttemptStore = Attempts(pools)
        self.upkeep: Upkeep = LedgerUpkeep(pools)
        self.queues: QueueStore = Queues(pools)
        self.dead_letters: DeadLetterStore = DeadLetters(pools)
        self.reports: Reports = LedgerReports(pools)
        self.retention: RetentionStore = LedgerRetention(pools)
        self.keys: KeyStore = IdempotencyKeys(pools)
        self.workers: WorkerStore = Workers(pools)
        self.webhooks: WebhookStore = Webhooks(pools)
        self.audit: AuditStore = Audit(pools)
        self.events: EventStore = Events(pools)

    async def ping(self) -> Mapping[str, object]:
        """As `Ledger.ping`: `server`, `schemaReady`, and the migrations that are missing."""
        row = await self._pools.read.fetchrow("SELECT current_setting('server_version') AS version")
        state = await read_state(self._pools.read.fetch)
        return {"server": row["version"], "schemaReady": state.is_ready, "pendingMigrations": state.pending}

    async def close(self) -> None:
        """Answer what was submitted, then close every connection."""
        await self._submissions.drain()
        await self._pools.close()


@asynccontextmanager
async def open_ledger(
    url: str,
    *,
    connections: int = 3,
    readers: int = 4,
    application_name: str = "ferryman",
    pooler: bool = False,
    metrics: Metrics | None = None,
) -> AsyncIterator[PostgresLedger]:
    """A ledger for the block. Nothing is dialled yet: the database may come later, and go and come again.

    `connections` serve the hot statements, `readers` the rest. `pooler`: the address is that of a pooler in
    transaction mode.
    """
    pools = Pools(
        url,
        connections=connections,
        readers=readers,
        shard=secrets.randbelow(SHARDS),
        application_name=application_name,
        pooler=pooler,
    )
    ledger = PostgresLedger(pools, metrics)
    try:
        yield ledger
    finally:
        await ledger.close()
