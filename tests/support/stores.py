"""All stores of one ledger, and jobs brought into every state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.job import Actor, ActorKind, Claimed
from ferryman.core.verdict import DeadLetter, RetryAt, Verdict
from ferryman.ledger.attempts import Attempts
from ferryman.ledger.changes import Changes
from ferryman.ledger.dead_letters import DeadLetters
from ferryman.ledger.lookup import Lookup
from ferryman.ledger.pool import Pools
from ferryman.ledger.queues import Queues
from ferryman.ledger.reports import LedgerReports
from ferryman.ledger.retention import LedgerRetention
from ferryman.ledger.submissions import Submissions
from ferryman.ports import Scope
from tests.support.ledgers import USER, claim, new_job, settlement

ACME = Scope(tenant_id="acme")
GLOBEX = Scope(tenant_id="globex")
EVERYONE = Scope(tenant_id=None)
ADMIN = Actor(
    kind=ActorKind.ADMIN,
    id="1",
    correlation_id="corr-9",
    trace_id="b" * 32,
    override=True,
    override_reason="asked for by its owner",
)
PLATFORM = Actor(kind=ActorKind.PLATFORM, id="ops")
BROKEN = Failure(
    error_class=ErrorClass.PERMANENT, message="it broke", details={"line": 3}, fingerprint="f" * 16
)


@dataclass(frozen=True)
class Stores:
    """One ledger, opened store by store."""

    pools: Pools
    submissions: Submissions
    attempts: Attempts
    lookup: Lookup
    changes: Changes
    queues: Queues
    letters: DeadLetters
    reports: LedgerReports
    retention: LedgerRetention

    @classmethod
    def on(cls, pools: Pools) -> Stores:
        """The stores behind these connections."""
        return cls(
            pools,
            Submissions(pools),
            Attempts(pools),
            Lookup(pools),
            Changes(pools),
            Queues(pools),
            DeadLetters(pools),
            LedgerReports(pools),
            LedgerRetention(pools),
        )

    async def submitted(self, **fields: Any) -> UUID:
        """A job that waits."""
        return (await self.submissions.insert(new_job(**fields), USER)).id

    async def running(self, **fields: Any) -> Claimed:
        """A job that runs."""
        queue = fields.get("queue", "default")
        (claimed,) = await claim(self.attempts, await self.submitted(**fields), queue=queue)
        return claimed

    async def ended(self, verdict: Verdict | None = None, **fields: Any) -> UUID:
        """A job whose first attempt ended with this verdict, completion by default."""
        claimed = await self.running(**fields)
        await self.attempts.settle("w1", [settlement(claimed, verdict)])
        return claimed.id

    async def retrying(self, delay_ms: int = 60_000, **fields: Any) -> UUID:
        """A job that waits out its backoff."""
        return await self.ended(RetryAt(delay_ms, BROKEN), **fields)

    async def dead(self, failure: Failure = BROKEN, **fields: Any) -> UUID:
        """A dead-lettered job."""
        return await self.ended(DeadLetter(failure), **fields)

    async def letter_of(self, job_id: UUID) -> UUID:
        """The newest letter of a job."""
        row = await self.pools.read.fetchrow(
            "SELECT id FROM ferryman.dead_letter_jobs WHERE original_job_id = $1 ORDER BY id DESC LIMIT 1",
            job_id,
        )
        found: UUID = row["id"]
        return found
