"""The figures for people, as tables, and for programs, as a JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.goals import GOALS
from tests.benchmarks.measured import Results, Spread

_UNITS = {"per_second": "/s", "seconds": "s"}
_HIDDEN = ("jobs", "p95_ms")


def print_tables(results: Results, console: Console) -> None:
    """What was measured, and how it stands to the goals."""
    console.print(_figures(results))
    console.print(_goals(results))
    for failure in results.failures:
        console.print(f"[red]failed[/] {failure}", highlight=False)


def write_json(results: Results, context: dict[str, Any], path: Path) -> None:
    """Every sample with its median, the goals, and what the run was made on."""
    figures = [
        {"discipline": d, "subject": s, "metric": m, "median": spread.median, "samples": spread.samples}
        for (d, s, m) in results.samples
        if (spread := results.spread((d, s, m)))
    ]
    goals = [
        {
            "goal": goal.text,
            "relation": goal.relation,
            "bound": goal.bound,
            "unit": goal.unit,
            "reached": reached.median,
            "samples": reached.samples,
            "met": goal.is_met(reached),
        }
        for goal in GOALS
        if (reached := goal.reached(results))
    ]
    document = {
        "context": {"python": platform.python_version(), "cpus": os.cpu_count(), **context},
        "figures": figures,
        "goals": goals,
        "failures": results.failures,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _figures(results: Results) -> Table:
    table = Table(title="Measured side by side (median of the rounds)", title_justify="left")
    for heading in ("", "", "figure"):
        table.add_column(heading)
    table.add_column("spread", justify="right")
    table.add_column("Ferryman : it", justify="right")
    previous = ""
    for discipline, subject in results.subjects():
        table.add_row(
            discipline if discipline != previous else "",
            subject,
            ", ".join(_metrics(results, discipline, subject)),
            _leading_spread(results, discipline, subject),
            _our_ratio(results, discipline, subject),
        )
        previous = discipline
    return table


def _metrics(results: Results, discipline: str, subject: str) -> Iterator[str]:
    for d, s, metric in results.samples:
        if (d, s) != (discipline, subject) or metric in _HIDDEN:
            continue
        spread = results.spread((d, s, metric))
        assert spread is not None
        name, unit = _named(metric)
        yield f"{name}{_rounded(spread.median)}{unit}"


def _named(metric: str) -> tuple[str, str]:
    if metric in _UNITS:
        return "", f" {_UNITS[metric]}".replace(" /s", "/s")
    if metric.endswith("_ms"):
        return metric.removesuffix("_ms").replace("_", " ") + " ", " ms"
    return metric.replace("_", " ") + " ", ""


def _leading(results: Results, discipline: str, subject: str) -> str | None:
    names = [m for d, s, m in results.samples if (d, s) == (discipline, subject) and m not in _HIDDEN]
    return names[0] if names else None


def _leading_spread(results: Results, discipline: str, subject: str) -> str:
    metric = _leading(results, discipline, subject)
    spread = results.spread((discipline, subject, metric)) if metric else None
    return spread.text if spread else ""


def _our_ratio(results: Results, discipline: str, subject: str) -> str:
    """How many times this subject we are: its rate by ours, or our time by its."""
    metric = _leading(results, discipline, subject)
    ours = next((s for d, s in results.subjects() if d == discipline and s.startswith("Ferryman")), None)
    if metric is None or ours is None or subject.startswith("Ferryman"):
        return ""
    ratio = results.ratio((discipline, ours, metric), (discipline, subject, metric))
    return f"{ratio.median:.2f} ×" if ratio else ""


def _goals(results: Results) -> Table:
    table = Table(title="Goals", title_justify="left")
    table.add_column("")
    for heading in ("reached", "spread", "goal"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for goal in GOALS:
        reached = goal.reached(results)
        if reached is None:
            continue
        met = goal.is_met(reached)
        table.add_row(
            goal.text,
            _with_unit(reached, goal.unit),
            reached.text,
            f"{goal.relation} {_rounded(goal.bound)} {goal.unit}",
            "[green]met[/]" if met else "[red]missed[/]",
        )
    return table


def _with_unit(spread: Spread, unit: str) -> str:
    return f"{_rounded(spread.median)} {unit}"


def _rounded(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
