"""Everything the handlers work with, built once from what the process was given."""

from __future__ import annotations

from dataclasses import dataclass

from ferryman.api.event_frames import FrameEncoder
from ferryman.api.limits import BuildInfo, Limits
from ferryman.auth.tokens import TokenVerifier
from ferryman.lifecycle.admission import Admission
from ferryman.lifecycle.changes import Changes
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.events import EventHub
from ferryman.lifecycle.explain import Explain
from ferryman.lifecycle.figures import Figures
from ferryman.lifecycle.lookup import Lookup
from ferryman.lifecycle.queue_changes import Queues
from ferryman.lifecycle.queue_directory import QueueDirectory
from ferryman.lifecycle.rates import Rates
from ferryman.lifecycle.replays import Replays
from ferryman.lifecycle.submission import Submission
from ferryman.lifecycle.upkeep import Upkeep
from ferryman.lifecycle.waits import Waits
from ferryman.lifecycle.webhooks import Webhooks
from ferryman.lifecycle.workers import Workers
from ferryman.ports import Clock, Dice, Dispatcher, Ledger
from ferryman.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What the API needs from outside. It closes none of them."""

    ledger: Ledger
    dispatcher: Dispatcher
    verifier: TokenVerifier
    metrics: Metrics
    clock: Clock
    dice: Dice
    limits: Limits
    build: BuildInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The dependencies, and what `lifecycle` makes of them."""

    given: Dependencies
    rates: Rates
    submission: Submission
    replays: Replays
    changes: Changes
    lookup: Lookup
    explain: Explain
    upkeep: Upkeep
    queues: Queues
    figures: Figures
    waits: Waits
    workers: Workers
    events: EventHub
    frames: FrameEncoder
    webhooks: Webhooks

    async def release(self) -> None:
        """Let held requests go, and hold none any more."""
        self.figures.close()
        await self.waits.close()
        await self.events.close()


def build_services(given: Dependencies) -> Services:
    """Put it together."""
    ledger, clock = given.ledger, given.clock
    link = DispatcherLink(given.dispatcher, given.metrics, clock)
    directory = QueueDirectory(ledger, clock)
    admission = Admission(ledger, link, clock, given.dice)
    figures, frames = Figures(ledger, link, clock), FrameEncoder()
    return Services(
        given=given,
        rates=Rates(
            link,
            directory,
            clock,
            calls_per_second=given.limits.calls_per_second,
            call_burst=given.limits.call_burst,
        ),
        submission=Submission(ledger, directory, admission, link, given.metrics, clock),
        replays=Replays(ledger),
        changes=Changes(ledger, link),
        lookup=Lookup(ledger),
        explain=Explain(ledger, link),
        upkeep=Upkeep(ledger, link),
        queues=Queues(ledger, directory, link),
        figures=figures,
        waits=Waits(ledger),
        workers=Workers(ledger, link, given.metrics),
        events=EventHub(ledger, figures, frames, given.metrics),
        frames=frames,
        webhooks=Webhooks(ledger, clock, allow_private=given.limits.webhooks_allow_private),
    )
