"""`python -m tests.benchmarks`: Ferryman beside arq, pgqueuer and bare servers, in one run on one machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.benchmarks.bench import Bench, BenchStack
from tests.benchmarks.measured import Results, Trial
from tests.benchmarks.report import print_tables, write_json
from tests.benchmarks.sizes import SMOKE, Sizes
from tests.benchmarks.trials import backlog, drain, enqueue, pickup, recovery
from tests.support.servers import START_SECONDS, make_postgres, make_redis

TRIALS: dict[str, Sequence[Trial]] = {
    "enqueue": enqueue.TRIALS,
    "drain": drain.TRIALS,
    "pickup": pickup.TRIALS,
    "recovery": recovery.TRIALS,
    "backlog": backlog.TRIALS,
}
TRIAL_SECONDS = 900.0
FILE_WIDTH = 132


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=TRIALS, help="this part alone; may be repeated")
    parser.add_argument("--subject", action="append", help="subjects whose name holds this; may be repeated")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (3)")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs")
    parser.add_argument("--backlog", type=int, help="jobs that wait in the backlog part (100000)")
    parser.add_argument("--recovery-peers", action="store_true", help="kill the peers' workers, too: minutes")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write every sample as JSON")
    return parser.parse_args(arguments)


def chosen(asked: argparse.Namespace) -> list[Trial]:
    """The trials of one round."""
    trials = [trial for name in TRIALS for trial in TRIALS[name] if not asked.only or name in asked.only]
    if asked.recovery_peers:
        trials += recovery.PEER_TRIALS
    wanted = [text.lower() for text in asked.subject or ()]
    return [t for t in trials if not wanted or any(text in t.subject.lower() for text in wanted)]


async def measure(bench: Bench, trials: Sequence[Trial], rounds: int, progress: Console) -> Results:
    """Every trial once a round, in turns, so that the machine's moods meet everybody."""
    results = Results()
    for number in range(rounds):
        for trial in trials:
            if trial.rounds is not None and number >= trial.rounds:
                continue
            began = time.monotonic()
            name = f"{trial.discipline}: {trial.subject}"
            try:
                async with asyncio.timeout(TRIAL_SECONDS), bench.clean(progress):
                    results.add(trial, number, await trial.run(bench))
                outcome = "measured"
            except Exception as error:
                results.failures.append(f"{name}: {_brief(error)}")
                outcome = "failed"
            took = time.monotonic() - began
            progress.print(f"round {number + 1}/{rounds}  {name}: {outcome} in {took:.1f} s", highlight=False)
    return results


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0] if len(lines) == 1 else f'{lines[0]} … {lines[-1]}'}"


@asynccontextmanager
async def running(sizes: Sizes) -> AsyncIterator[Bench]:
    """Servers for one run of the benchmark, gone at its end with everything that ran on them."""
    folder = Path(tempfile.mkdtemp(prefix="ferryman-bench-"))
    folder.chmod(0o755)
    stack = BenchStack(folder, make_postgres(), make_redis())
    try:
        await asyncio.to_thread(stack.postgres.start, START_SECONDS)
        await asyncio.to_thread(stack.redis.start, START_SECONDS)
        bench = Bench(stack, sizes)
        await bench.prepare()
        yield bench
    finally:
        stack.close()
        shutil.rmtree(folder, ignore_errors=True)


async def run(asked: argparse.Namespace) -> Results:
    """Measure, print, write; what was found."""
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None
    loop.add_signal_handler(signal.SIGTERM, this.cancel)
    sizes = SMOKE if asked.quick else Sizes()
    if asked.backlog:
        sizes = replace(sizes, backlog=asked.backlog)
    rounds = 1 if asked.quick else asked.repeat
    progress = Console(stderr=True)
    busy, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if busy > cpus / 2:
        progress.print(f"[yellow]the machine is busy (load {busy:.1f} on {cpus} CPUs): trust ratios alone")
    began = time.monotonic()
    async with running(sizes) as bench:
        results = await measure(bench, chosen(asked), rounds, progress)
        context = {
            "rounds": rounds,
            "seconds": round(time.monotonic() - began),
            "loadBefore": round(busy, 1),
            **await bench.versions(),
        }
    print_tables(results, _console())
    if asked.output:
        write_json(results, context, asked.output)
    return results


def _console() -> Console:
    # What is piped into a file has no width of its own.
    return Console() if sys.stdout.isatty() else Console(width=FILE_WIDTH)


def main() -> int:
    """The exit code: 1 when something could not be measured. A missed goal is a figure, not a failure."""
    try:
        return 1 if asyncio.run(run(options())).failures else 0
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
