"""How much one may ask for in a while: calls of a user, submissions of a tenant to a queue, failed logins.

Redis counts for all processes together. While it is away each process counts for itself, by the same rates.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from ferryman.auth.policy import Call
from ferryman.auth.principal import Principal
from ferryman.core.queues import tenant_limits
from ferryman.core.rates import Taken, Toll, take
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.failures import RateLimitedError, TooManyAtOnceError
from ferryman.lifecycle.queue_directory import QueueDirectory
from ferryman.ports import Clock

_MAX_BUCKETS: Final = 10_000


class Rates:
    """Takes tokens, or raises RateLimitedError. `calls_per_second` 0: calls have no limit."""

    def __init__(
        self,
        link: DispatcherLink,
        directory: QueueDirectory,
        clock: Clock,
        *,
        calls_per_second: float = 0,
        call_burst: int = 0,
    ) -> None:
        self._link = link
        self._directory = directory
        self._clock = clock
        self._per_second = calls_per_second
        self._burst = max(1, call_burst)
        self._local = LocalBuckets()

    async def call(self, principal: Principal) -> Taken | None:
        """One call of this bearer, whatever it asks; None when nothing limits it."""
        return await self._call(_bucket_of(principal)) if self._per_second else None

    async def failed_login(self, peer: str) -> None:
        """One token from this address that proved nothing, held to the rate of a user's calls."""
        if self._per_second:
            await self._call(f"login:{peer}")

    async def submission(self, asker: Asker, wanted: Mapping[str, int]) -> Taken | None:
        """So many jobs for each of these queues, for all of them or for none. The tightest of the queues'
        buckets, None when no limit is set; then nothing was asked of Redis.

        Raises UnknownQueueError, and TooManyAtOnceError for more than a bucket ever holds.
        """
        tenant_id = asker.scope(Call.JOB_SUBMIT).tenant_id or ""
        tolls: list[Toll] = []
        for queue, jobs in wanted.items():
            limits = tenant_limits((await self._directory.get(queue)).settings, tenant_id)
            if not limits.submit_per_second:
                continue
            burst = max(1, limits.submit_burst)
            if jobs > burst:
                raise TooManyAtOnceError(queue, jobs=jobs, burst=burst)
            bucket = f"submit:{queue}:{tenant_id}"
            rate = limits.submit_per_second
            tolls.append(Toll(bucket=bucket, cost=jobs, per_second=rate, burst=burst))
        if not tolls:
            return None
        return await self._take(
            tolls, "the tenant has submitted as many jobs to this queue as it may for now"
        )

    async def _call(self, bucket: str) -> Taken:
        toll = Toll(bucket=bucket, cost=1, per_second=self._per_second, burst=self._burst)
        return await self._take([toll], "as many calls were made as one may make for now")

    async def _take(self, tolls: Sequence[Toll], refusal: str) -> Taken:
        standings = await self._link.call(lambda dispatcher: dispatcher.take(tolls))
        if standings is None:
            standings = self._local.take(tolls, int(self._clock.monotonic() * 1_000_000))
        refused = [standing for standing in standings if not standing.allowed]
        if refused:
            raise RateLimitedError(refusal, max(refused, key=lambda standing: standing.retry_after_ms or 0))
        return min(standings, key=lambda standing: standing.remaining)


class LocalBuckets:
    """The buckets of this process alone: 10,000, then the one that was longest untouched is forgotten."""

    def __init__(self) -> None:
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def take(self, tolls: Sequence[Toll], now_us: int) -> list[Taken]:
        """As `Dispatcher.take`."""
        kept = [self._full_at.get(toll.bucket) for toll in tolls]
        standings, full_at = take(tolls, kept, now_us)
        for toll, at in zip(tolls, full_at or (), strict=False):
            self._full_at[toll.bucket] = at
            self._full_at.move_to_end(toll.bucket)
        while len(self._full_at) > _MAX_BUCKETS:
            self._full_at.popitem(last=False)
        return standings


def _bucket_of(principal: Principal) -> str:
    """By what was verified: the user of its tenant, else the subject."""
    if principal.user_id is None or principal.tenant_id is None:
        return f"call:subject:{principal.subject}"
    return f"call:{principal.user_id}:{principal.tenant_id}"
