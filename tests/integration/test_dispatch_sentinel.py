"""A master that sentinels name: found at the start, and found again when it is another server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from ferryman.embedded import EmbeddedRedis
from ferryman.embedded.binaries import find_redis
from ferryman.embedded.loopback import accepts, free_port
from ferryman.embedded.processes import wait_until
from ferryman.ports import DispatcherUnavailableError
from tests.support.dispatching import opened, warm
from tests.support.servers import START_SECONDS, make_redis
from tests.support.waiting import eventually

SERVICE = "main"


@pytest.fixture
def masters() -> Iterator[tuple[EmbeddedRedis, EmbeddedRedis]]:
    """Two servers with one password."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(make_redis()) for _ in range(2))
        with Redis.from_url(second.url) as client:
            client.config_set("requirepass", first.password)
        yield first, second


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[int]:
    """The port of a sentinel that watches nothing yet."""
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n")
    named = os.environ.get("FERRYMAN_TEST_REDIS_BIN")
    program = find_redis(Path(named) if named else None)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program, configuration, "--sentinel"], stdout=log, stderr=log)
    try:
        assert wait_until(lambda: accepts(port), START_SECONDS)
        yield port
    finally:
        process.kill()
        process.wait()


def watch(port: int, master: EmbeddedRedis, password: str) -> None:
    """Make this server the master of the service."""
    with Redis(port=port) as client:
        commands: Any = client
        if commands.sentinel_masters():
            commands.sentinel_remove(SERVICE)
        commands.sentinel_monitor(SERVICE, "127.0.0.1", master.port, 1)
        commands.sentinel_set(SERVICE, "auth-pass", password)


async def test_the_master_is_found_and_found_again(
    masters: tuple[EmbeddedRedis, EmbeddedRedis], sentinel: int
) -> None:
    first, second = masters
    watch(sentinel, first, first.password)
    url = f"sentinel://:{first.password}@127.0.0.1:1,127.0.0.1:{sentinel}/{SERVICE}/0"
    async with opened(url) as dispatcher:
        await warm(dispatcher)
        assert not await dispatcher.is_cold("q")
        watch(sentinel, second, first.password)
        first.kill()

        async def is_cold() -> bool:
            try:
                return await dispatcher.is_cold("q")
            except DispatcherUnavailableError:
                return False

        assert await eventually(is_cold, within_s=10)  # the other server knows nothing yet
        await warm(dispatcher)
        assert await dispatcher.wait_for_work(["q"], at_most_ms=10) is None
