"""A whole pipeline as pytest fixtures: embedded servers, an API and a worker, each a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from ferryman.cli.stack import DEMO_HANDLERS, TOKEN_SECONDS, Stack, StackOptions
from ferryman.client import Client
from ferryman.settings import environment_for_children
from ferryman.wiring import mint_token

T = TypeVar("T")


class Pipeline:
    """A pipeline that runs. Its URLs are for whatever a test wants to look at or break."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        about = stack.description()
        self.url: str = about["url"]
        self.database_url: str = about["databaseUrl"]
        self.owner_database_url: str = about["ownerDatabaseUrl"]
        self.redis_url: str = about["redisUrl"]

    def token(self, *roles: str, tenant: str | None = "test", user: int | None = 1) -> str:
        """A token of that user; of role user when none is named."""
        return mint_token(self._stack.identity, tenant, user, roles or ("user",), ttl_seconds=TOKEN_SECONDS)

    def client(self, *roles: str, tenant: str | None = "test", user: int | None = 1) -> Client:
        """A client in the name of that user, to be opened by `async with`."""
        return Client(self.url, self.token(*roles, tenant=tenant, user=user))


@pytest.fixture(scope="session")
def ferryman_handlers() -> str:
    """The module with the registry that the worker runs. Override it in your conftest.py."""
    return environment_for_children().get("FERRYMAN_HANDLERS", DEMO_HANDLERS)


@pytest.fixture(scope="session")
def ferryman_queues() -> Sequence[str]:
    """Queues beside the three built-in ones. Override it in your conftest.py."""
    return ()


@pytest.fixture(scope="session")
def ferryman_pipeline(ferryman_handlers: str, ferryman_queues: Sequence[str]) -> Iterator[Pipeline]:
    """One pipeline for the whole run, gone at its end. Tests keep apart by tenants of their own."""
    environment = environment_for_children()
    # What this run can import, its workers can, too.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    options = StackOptions(port=0, workers=1, handlers=ferryman_handlers, queues=ferryman_queues)
    with _LoopThread() as loop:
        stack = Stack(options, environment, tell=_say, changed=_nothing)
        loop.run(stack.__aenter__())
        try:
            yield Pipeline(stack)
        finally:
            loop.run(stack.__aexit__(None, None, None))


@pytest.fixture
def ferryman_client(ferryman_pipeline: Pipeline) -> Client:
    """A client of user 1 in tenant `test`, to be opened by `async with`."""
    return ferryman_pipeline.client()


class _LoopThread:
    """An event loop of its own, for what must go on between tests that each have theirs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ferryman-testing", daemon=True)

    def __enter__(self) -> _LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine answers."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _nothing() -> None:
    """Nobody waits for new process ids."""
