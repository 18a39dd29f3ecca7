"""The closing books of the demonstration, from three sides of the API: jobs, statistics, queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ferryman.client import Client, Job


@dataclass(frozen=True, slots=True)
class Books:
    """What was acknowledged, and what the API says of it. `wait_ms` has p50 and p99."""

    acknowledged: int
    by_status: Counter[str]
    stats: dict[str, int]
    letters: int
    unfinished: int
    sources: frozenset[str]
    wait_ms: dict[str, float | None]
    retries: int

    @property
    def ended(self) -> int:
        """Completed, dead-lettered and cancelled jobs."""
        return sum(self.by_status[status] for status in ("completed", "dead_letter", "cancelled"))

    def disagreements(self) -> list[str]:
        """Every pair of figures that should be equal and is not."""
        pairs = [
            (self.acknowledged, "acknowledged jobs", self.ended, "ended"),
            (
                self.acknowledged,
                "acknowledged jobs",
                self.stats["submitted"],
                "submissions in the statistics",
            ),
            *(
                (self.by_status[status], f"{status} jobs", self.stats[status], f"{status} in the statistics")
                for status in ("completed", "dead_letter", "cancelled", "expired")
            ),
            (self.by_status["dead_letter"], "dead_letter jobs", self.letters, "dead letters"),
            (self.unfinished, "jobs wait or run in the queues", 0, "should"),
        ]
        return [f"{left} {a}, but {right} {b}" for left, a, right, b in pairs if left != right]

    def lines(self) -> list[str]:
        """For people."""
        found, p = self.by_status, self.wait_ms
        agree = "ledger and Redis agree" if self.sources == {"redis"} else "ledger alone: Redis is away"
        verdict = "✗ " + "; ".join(self.disagreements()) if self.disagreements() else f"✓ balanced, {agree}"
        return [
            f"Books   submitted {self.acknowledged} = completed {found['completed']}"
            f" + dead letters {found['dead_letter']} + cancelled {found['cancelled']}   {verdict}",
            f"Wait    p50 {_ms(p['p50'])}  p99 {_ms(p['p99'])}     Retries {self.retries}",
        ]


async def close_books(client: Client, acknowledged: int, jobs: Sequence[Job]) -> Books:
    """Ask the API for everything that the books need."""
    stats: dict[str, Any] = await client.call("GET", "/api/jobs/stats")
    letters = await client.call("GET", "/api/dead-letters", params={"limit": 200})
    queues = (await client.call("GET", "/api/jobs/queue/status"))["queues"]
    open_states = ("pending", "scheduled", "retrying", "running")
    return Books(
        acknowledged=acknowledged,
        by_status=Counter(str(job.status) for job in jobs),
        stats=stats["counts"],
        letters=len(letters["deadLetters"]),
        unfinished=sum(queue[state] for queue in queues for state in open_states),
        sources=frozenset(queue["source"] for queue in queues),
        wait_ms=stats["waitMs"],
        retries=stats["retries"],
    )


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"
