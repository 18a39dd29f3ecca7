"""Upkeep that is asked for: retention and the reconciliation of dead letters."""

from __future__ import annotations

from ferryman.auth.policy import Call, Ownership
from ferryman.core.job import Actor
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.ports import Ledger, LetterFilter, RedrivePreview, RedriveResult, RetentionResult, Scope


class Upkeep:
    """Works on the asker's tenant, or on all of them for a service that named none."""

    def __init__(self, ledger: Ledger, link: DispatcherLink) -> None:
        self._ledger = ledger
        self._link = link

    async def retention(self, asker: Asker, *, queue: str | None, dry_run: bool) -> RetentionResult:
        """Delete what is older than the policies allow, or only count it."""
        scope, actor = _name(asker, Call.RETENTION)
        return await self._ledger.retention.apply(scope, queue=queue, dry_run=dry_run, actor=actor)

    async def preview(
        self, asker: Asker, wanted: LetterFilter, *, max_redrives: int | None, batch_size: int
    ) -> RedrivePreview:
        """What a redrive would move."""
        scope, _ = _name(asker, Call.RECONCILE)
        return await self._ledger.dead_letters.preview(
            scope, wanted, max_redrives=max_redrives, batch_size=batch_size
        )

    async def redrive(
        self,
        asker: Asker,
        wanted: LetterFilter,
        *,
        digest: str | None,
        max_redrives: int | None,
        batch_size: int,
        reset_retries: bool,
        rate_per_second: float | None,
    ) -> RedriveResult:
        """Requeue dead letters. Raises DigestUnknownError."""
        scope, actor = _name(asker, Call.RECONCILE)
        result = await self._ledger.dead_letters.redrive(
            scope,
            wanted,
            actor,
            digest=digest,
            max_redrives=max_redrives,
            batch_size=batch_size,
            reset_retries=reset_retries,
            rate_per_second=rate_per_second,
        )
        await self._link.push(result.positions)
        return result


def _name(asker: Asker, call: Call) -> tuple[Scope, Actor]:
    scope = asker.scope(call)
    ownership = Ownership.ALL if scope.tenant_id is None else Ownership.TENANT
    return scope, asker.actor(call, ownership)
