"""The jobs of the demonstration: sixty, of six types, with every kind of end among them."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

TAG: Final = "demo"
SCHEDULED_IN_MS: Final = 2_500

# Runs until it is cancelled; by itself it would end after a minute.
ENDLESS: Final[dict[str, Any]] = {
    "type": "report",
    "input": {"steps": 300, "step_ms": 200},
    "metadata": {"demo": "cancelled"},
}


def jobs() -> list[dict[str, Any]]:
    """Every job, in the order of submission, as `Client.submit_many` takes them."""
    planned = [
        {"type": "report", "input": {"steps": 12, "step_ms": 150}},
        ENDLESS,
        *({"type": "flaky", "input": {"failures": 1, "message": f"call {n}"}} for n in range(4)),
        {"type": "doomed", "input": {"template": "farewell"}},
        {
            "type": "chat",
            "input": {"message": "see you later"},
            "delay_ms": SCHEDULED_IN_MS,
            "metadata": {"demo": "scheduled"},
        },
        *({"type": "chat", "input": {"message": f"How is job {n}?"}, "priority": 50} for n in range(19)),
        *({"type": "memory", "input": {"message": f"Remember the ferry number {n}"}} for n in range(18)),
        *({"type": "notification", "input": {"to": f"user {n}", "message": "hello"}} for n in range(15)),
    ]
    return [{**job, "tags": [TAG]} for job in planned]


def summary(planned: list[dict[str, Any]]) -> str:
    """`chat 20, memory 18, …`, most first."""
    counts = Counter(str(job["type"]) for job in planned)
    return ", ".join(f"{kind} {count}" for kind, count in counts.most_common())


def is_endless(metadata: dict[str, Any]) -> bool:
    """Whether this is the job that is to be cancelled."""
    return metadata.get("demo") == "cancelled"
