"""The queues' settings as the worker needs them: at hand without a question, a few seconds old at most."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from ferryman.core.job import Claimed
from ferryman.core.queues import HandlerSettings, QueueSettings, retry_policy, timeout_ms
from ferryman.core.retry import RetryPolicy
from ferryman.ports import LedgerError, LedgerUnavailableError, QueueStore
from ferryman.telemetry import names

REFRESH_S: Final = 2.0
MOST_POLICIES: Final = 4_096
FIRST_LEASE_MS: Final = 6_000

_DEFAULT: Final = QueueSettings()

log = logging.getLogger(__name__)

Policy = tuple[RetryPolicy, int]


class QueueBook:
    """Settings of this worker's queues, and what they make of its handlers' policies."""

    def __init__(self, queues: QueueStore, wanted: Sequence[str]) -> None:
        self._queues = queues
        self._wanted = tuple(wanted)
        self._settings: dict[str, QueueSettings] = {}
        self._policies: dict[tuple[object, ...], Policy] = {}

    @property
    def known(self) -> list[str]:
        """Those of the worker's queues that exist."""
        return [name for name in self._wanted if name in self._settings]

    def knows(self, queue: str) -> bool:
        """Whether this is one of the worker's queues, and exists."""
        return queue in self._settings

    def lease_ms(self, queue: str) -> int:
        """For how long a claim is leased before its first heartbeat, which makes it the visibility timeout.

        Three beats are enough: a worker that dies between the script and the statement has told the ledger
        nothing, so only the end of this lease brings the job back.
        """
        return min(self._settings.get(queue, _DEFAULT).visibility_timeout_ms, FIRST_LEASE_MS)

    def policy(self, claimed: Claimed, handler: HandlerSettings) -> Policy:
        """Retry policy and time limit of a claimed job, by the precedence of `core.queues`."""
        key = (
            claimed.queue,
            claimed.type,
            claimed.max_retries if claimed.max_retries_given else None,
            claimed.retry_delay_ms if claimed.retry_delay_given else None,
            claimed.timeout_ms,
        )
        policy = self._policies.get(key)
        if policy is None:
            if len(self._policies) >= MOST_POLICIES:
                self._policies.clear()
            policy = self._policies[key] = self._work_out(claimed, handler)
        return policy

    async def settings_of(self, queue: str) -> QueueSettings | None:
        """The settings of any queue, None when there is none. Raises LedgerUnavailableError."""
        known = self._settings.get(queue)
        if known is not None:
            return known
        record = await self._queues.get(queue)
        return None if record is None else record.settings

    async def refresh(self) -> None:
        """Read the settings again. Raises LedgerError, with the old ones still at hand."""
        for name in self._wanted:
            record = await self._queues.get(name)
            if record is None:
                if self._settings.pop(name, None) is not None:
                    self._policies.clear()
            elif self._settings.get(name) != record.settings:
                self._settings[name] = record.settings
                self._policies.clear()

    async def keep_fresh(self) -> None:
        """Refresh for ever. While the ledger is away the old settings hold."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
            except LedgerUnavailableError:
                log.debug(names.LEDGER_AWAY)
            except LedgerError as error:
                log.warning(names.LEDGER_AWAY, extra={"error": str(error)})

    def _work_out(self, claimed: Claimed, handler: HandlerSettings) -> Policy:
        settings = self._settings.get(claimed.queue, _DEFAULT)
        policy = retry_policy(
            settings,
            claimed.type,
            max_retries=claimed.max_retries if claimed.max_retries_given else None,
            retry_delay_ms=claimed.retry_delay_ms if claimed.retry_delay_given else None,
            handler=handler,
        )
        return policy, timeout_ms(settings, claimed.type, given=claimed.timeout_ms, handler=handler)
