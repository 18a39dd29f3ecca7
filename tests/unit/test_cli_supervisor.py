"""The supervisor with units that end when a test says so."""

import asyncio

import pytest

from ferryman.cli import supervisor
from ferryman.cli.supervisor import Supervisor


class FakeUnit:
    """Ends when told; `refusals` starts fail first."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.pid = 0
        self.refusals = 0
        self._log = log
        self._end = asyncio.Event()

    async def start(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError("not now")
        self.pid += 1
        self._log.append(f"start {self.name}")
        self._end.clear()

    async def ended(self) -> str:
        await self._end.wait()
        return "ended"

    async def stop(self, patience: float) -> None:
        self._log.append(f"stop {self.name}")

    def kill(self) -> None:
        self._log.append(f"kill {self.name}")

    def end(self) -> None:
        self._end.set()


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.0)


async def test_ended_units_are_started_again_and_it_is_told() -> None:
    log: list[str] = []
    told: list[str] = []
    changed: asyncio.Queue[int] = asyncio.Queue()
    unit = FakeUnit("API", log)
    keeper = Supervisor(changed=lambda: changed.put_nowait(unit.pid), tell=told.append)
    await keeper.add(unit)
    unit.refusals = 2
    unit.end()
    assert await asyncio.wait_for(changed.get(), 5) == 2
    assert told == ["API ended; starting it again", *["API did not start: not now"] * 2]
    assert keeper.ends == 1
    await keeper.stop(1.0)


async def test_units_stop_in_opposite_order_and_are_not_started_again() -> None:
    log: list[str] = []
    keeper = Supervisor(changed=lambda: None, tell=lambda _: None)
    units = [FakeUnit(name, log) for name in ("PostgreSQL", "API", "worker 1", "worker 2")]
    for unit in units:
        await keeper.add(unit)
    keeper.kill()
    await keeper.stop(1.0)
    assert log[:4] == [f"start {unit.name}" for unit in units]
    assert log[4:8] == [f"kill {unit.name}" for unit in units]
    assert log[8:] == ["stop worker 2", "stop worker 1", "stop API", "stop PostgreSQL"]
