"""Counters as plain integers, and their text for Prometheus: nothing on the hot path but an addition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """The counters and gauges of one process, by name and label values."""

    def __init__(self) -> None:
        self._counters: defaultdict[str, defaultdict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._gauges: dict[str, Callable[[], float]] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add `amount` to a counter."""
        self._counters[name][tuple(sorted(labels.items()))] += amount

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Read this gauge by `read` whenever the metrics are asked for."""
        self._gauges[name] = read

    def value(self, name: str, **labels: str) -> float:
        """The present value of a counter, 0 when it was never counted."""
        return self._counters[name][tuple(sorted(labels.items()))]

    def exposition(self) -> str:
        """Everything in the Prometheus text format, version 0.0.4."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, series in sorted(self._counters.items()):
            yield f"# TYPE {name} counter"
            for labels, value in sorted(series.items()):
                yield f"{name}{_braces(labels)} {value:g}"
        for name, read in sorted(self._gauges.items()):
            yield f"# TYPE {name} gauge"
            yield f"{name} {read():g}"


_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{value.translate(_ESCAPES)}"' for key, value in labels) + "}"
