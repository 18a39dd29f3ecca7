"""What a run yields: named values of one subject in one discipline, round by round."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.benchmarks.bench import Bench

Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """One discipline of one subject; `run` answers values by metric. `rounds` caps how often it is run."""

    discipline: str
    subject: str
    run: Callable[[Bench], Awaitable[Values]]
    rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and extremes of one metric over the rounds."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def text(self) -> str:
        """Half the distance between the extremes, in per cent of the median."""
        if len(self.samples) < 2 or not self.median:
            return ""
        return f"± {(max(self.samples) - min(self.samples)) / 2 / abs(self.median) * 100:.0f} %"


Key = tuple[str, str, str]


@dataclass
class Results:
    """Every sample, by (discipline, subject, metric) and round; and what failed."""

    samples: dict[Key, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    failures: list[str] = field(default_factory=list)

    def add(self, trial: Trial, round_number: int, values: Values) -> None:
        for metric, value in values.items():
            self.samples[trial.discipline, trial.subject, metric][round_number] = value

    def spread(self, key: Key) -> Spread | None:
        """All rounds of one metric; None if it was never measured."""
        found = self.samples.get(key)
        return Spread(tuple(found.values())) if found else None

    def ratio(self, ours: Key, theirs: Key) -> Spread | None:
        """Ours by theirs in each round that has both: neighbours in time meet the same noise."""
        mine, other = self.samples.get(ours, {}), self.samples.get(theirs, {})
        paired = [mine[n] / other[n] for n in mine if other.get(n)]
        return Spread(tuple(paired)) if paired else None

    def subjects(self) -> Iterator[tuple[str, str]]:
        """(discipline, subject) in the order in which they were measured."""
        yield from dict.fromkeys((discipline, subject) for discipline, subject, _ in self.samples)
