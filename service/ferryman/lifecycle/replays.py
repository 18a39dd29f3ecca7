"""Submissions under an Idempotency-Key: carried out once, answered alike ever after."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import UUID

from msgspec import Struct

from ferryman.auth.policy import Call
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.failures import KeyBusyError, KeyMismatchError
from ferryman.ports import KeyHolder, KeyState, Ledger, LedgerError, OutcomeUnknownError
from ferryman.telemetry import names

log = logging.getLogger(__name__)


class Reply(Struct, frozen=True):
    """An answer that can be given again: its HTTP status and its JSON."""

    status: int
    body: bytes
    is_replay: bool = False


class Replays:
    """The first try under a key fixes the ids of its jobs. Whoever takes over from a try that was never
    answered stores the same ids again, so however often it is sent, the jobs are stored once.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def once(
        self,
        asker: Asker,
        key: str,
        request: bytes,
        offered: Sequence[UUID],
        carry_out: Callable[[Sequence[UUID]], Awaitable[Reply]],
    ) -> Reply:
        """The reply of `carry_out`, which gets the job ids to use, or the first reply again.

        `request` is what must be the same each time. Raises KeyMismatchError, KeyBusyError, and what
        `carry_out` raises; then the key is free again, unless the jobs may have been stored.
        """
        scope = asker.scope(Call.JOB_SUBMIT)
        holder = KeyHolder(scope.tenant_id or "", scope.user_id or 0, key)
        body_hash = hashlib.sha256(request).digest()
        state = await self._ledger.keys.take(holder, body_hash=body_hash, job_ids=offered)
        if not state.is_taken:
            return _first_reply(state, body_hash)
        try:
            reply = await carry_out(state.job_ids)
        except Exception as error:
            if not isinstance(error, OutcomeUnknownError):
                with suppress(LedgerError):  # then it frees itself in some seconds
                    await self._ledger.keys.free(holder, tried_at=state.tried_at)
            raise
        await self._remember(holder, reply)
        return reply

    async def _remember(self, holder: KeyHolder, reply: Reply) -> None:
        try:
            await self._ledger.keys.answered(holder, status=reply.status, answer=reply.body)
        except LedgerError as error:
            # The jobs are stored. The next try finds the key without an answer and stores the same ids.
            log.warning(names.REQUEST_FAILED, extra={"reason": str(error), "key_holder": holder.tenant_id})


def _first_reply(state: KeyState, body_hash: bytes) -> Reply:
    if state.body_hash != body_hash:
        raise KeyMismatchError("this Idempotency-Key came with another request before")
    if state.status is None or state.answer is None:
        raise KeyBusyError("a submission with this Idempotency-Key is under way")
    return Reply(state.status, state.answer, is_replay=True)
