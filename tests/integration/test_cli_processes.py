"""`ferryman api`, `worker` and `migrate` as processes: how they begin, what they refuse, how they stop."""

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from ferryman.client import Client
from ferryman.embedded import EmbeddedPostgres
from ferryman.embedded.loopback import free_port
from tests.support.commands import Running, clean_environment, ferryman, installation, running
from tests.support.servers import Database
from tests.support.waiting import eventually


@pytest.fixture
def settings(ledger_database: Database, redis_url: str) -> dict[str, str]:
    """An installation that is migrated and has nobody running."""
    return installation(ledger_database, redis_url)


async def token(settings: dict[str, str], *words: str) -> str:
    done = await ferryman("token", *words, environment=clean_environment(**settings))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def until_listening(api: Running, port: int) -> None:
    async def look() -> bool:
        assert api.process.poll() is None, api.output
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await eventually(look, within_s=20)


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (["api"], "FERRYMAN_DATABASE_URL"),
        (["api"], "FERRYMAN_REDIS_URL"),
        (["worker", "--handlers", "shop.jobs"], "FERRYMAN_REDIS_URL"),
    ],
)
async def test_missing_settings_stop_the_process_at_its_start(
    settings: dict[str, str], command: list[str], missing: str
) -> None:
    del settings[missing]
    done = await ferryman(*command, environment=clean_environment(**settings))
    assert done.returncode == 2
    first, takes, hint = done.stderr.splitlines()
    assert first == f"ferryman: {missing} is not set"
    assert f"{missing}_FILE reads it from a file." in takes
    assert "`ferryman dev` brings its own" in hint


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FERRYMAN_PORT", "eighty", "It takes a port, from 0 (any free one) to 65535; it got 'eighty'."),
        ("FERRYMAN_JWT_SECRET", "hunter2", "it got 7 characters that are not shown."),
        ("FERRYMAN_FAILPOINT", "nowhere", "It takes one of cancel.after_ledger"),
        ("FERRYMAN_JWKS_URL", "https://id.example/keys", "are both set"),
    ],
)
async def test_wrong_settings_stop_the_process_at_its_start(
    settings: dict[str, str], variable: str, value: str, said: str
) -> None:
    done = await ferryman("api", environment=clean_environment(**settings | {variable: value}))
    assert done.returncode == 2
    assert said in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


async def test_api_serves_and_stops_in_good_order(settings: dict[str, str]) -> None:
    """Not ready first, then no new connections, and what was asked before is answered."""
    port = free_port()
    environment = clean_environment(**settings, FERRYMAN_PORT=str(port)) | {"FERRYMAN_API_DRAIN_SECONDS": "2"}
    async with running("api", environment=environment) as api, aiohttp.ClientSession() as session:
        await until_listening(api, port)
        url = f"http://127.0.0.1:{port}"
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 200
        async with Client(url, await token(settings)) as client:
            job = await client.submit("chat", {"message": "nobody runs it"})
            held = asyncio.create_task(
                client.call("GET", f"/api/jobs/{job.job_id}/wait", params={"timeoutMs": 2_500})
            )

            async def readiness() -> int:
                async with session.get(f"{url}/readyz") as answer:
                    return answer.status

            api.process.send_signal(signal.SIGTERM)
            await eventually(readiness, lambda status: status == 503)
            async with session.get(f"{url}/healthz") as answer:
                assert answer.status == 200
            assert (await held)["status"] == "pending"
        assert await api.ended() == 0
        events = [json.loads(line)["event"] for line in api.output.splitlines()]
        assert events.index("api.started") < events.index("api.stopping") < events.index("api.stopped")


async def test_taken_port_ends_the_api_with_1(settings: dict[str, str]) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    done = await ferryman("api", "--port", port, environment=clean_environment(**settings))
    server.close()
    assert done.returncode == 1
    assert "address already in use" in done.stderr.lower()


async def test_api_starts_before_its_database(settings: dict[str, str]) -> None:
    port = free_port()
    nowhere = {"FERRYMAN_DATABASE_URL": "postgresql://ferryman@127.0.0.1:1/ferryman"}
    environment = clean_environment(**settings | nowhere)
    async with (
        running("api", "--port", str(port), environment=environment) as api,
        aiohttp.ClientSession() as session,
    ):
        await until_listening(api, port)
        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["dependencies"]["ledger"]["state"] == "down"
        assert await api.stop() == 0


async def test_unknown_variables_are_told_and_do_no_harm(settings: dict[str, str]) -> None:
    port = str(free_port())
    environment = clean_environment(**settings, FERRYMAN_MAX_BODY_BYTE="1")
    async with running("api", "--port", port, environment=environment) as api:
        await until_listening(api, int(port))
        assert (
            "FERRYMAN_MAX_BODY_BYTE means nothing here; did you mean FERRYMAN_MAX_BODY_BYTES?" in api.output
        )
        assert await api.stop(signal.SIGINT) == 0


HANDLERS = """
import asyncio
from ferryman import Registry

jobs = Registry()

@jobs.handler("greet")
async def greet(ctx, name):
    return {"greeting": f"hello {name}"}

@jobs.handler("slow")
async def slow(ctx, seconds):
    await asyncio.sleep(seconds)
    return {"slept": seconds}
"""


@pytest.fixture
async def api(settings: dict[str, str]) -> AsyncIterator[Client]:
    """A client of an API on these settings."""
    port = free_port()
    async with running("api", "--port", str(port), environment=clean_environment(**settings)) as process:
        await until_listening(process, port)
        bearer = await token(settings, "--role", "user", "--role", "platform")
        async with Client(f"http://127.0.0.1:{port}", bearer) as client:
            yield client


@pytest.fixture
def handlers(tmp_path: Path) -> str:
    """A folder with a module `shop` of handlers."""
    (tmp_path / "shop.py").write_text(HANDLERS)
    return str(tmp_path)


def with_handlers(settings: dict[str, str], folder: str) -> dict[str, str]:
    environment = clean_environment(**settings)
    return environment | {"PYTHONPATH": f"{folder}{os.pathsep}{environment['PYTHONPATH']}"}


async def test_worker_runs_jobs_and_lets_them_end(
    settings: dict[str, str], api: Client, handlers: str
) -> None:
    environment = with_handlers(settings | {"FERRYMAN_HANDLERS": "shop"}, handlers)
    async with running("worker", environment=environment) as worker:
        greeted = await api.submit("greet", {"name": "Ann"})
        assert (await api.wait(greeted.job_id, timeout=30)).output == {"greeting": "hello Ann"}
        slow = await api.submit("slow", {"seconds": 2})

        async def status() -> str:
            return (await api.get(slow.job_id)).status

        await eventually(status, lambda seen: seen == "running")
        assert await worker.stop() == 0
    assert (await api.get(slow.job_id)).output == {"slept": 2}


async def test_worker_waits_for_a_queue_that_does_not_exist_yet(
    settings: dict[str, str], api: Client, handlers: str
) -> None:
    words = ["worker", "--queue", "parcels", "--handlers", "shop"]
    async with running(*words, environment=with_handlers(settings, handlers)) as worker:

        async def started() -> bool:
            return "worker.started" in worker.output

        await eventually(started, within_s=20)
        made = await ferryman(
            "queues", "set", "parcels", environment=clean_environment(**settings, FERRYMAN_API_URL=api.url)
        )
        assert made.returncode == 0, made.stderr
        job = await api.submit("greet", {"name": "Bo"}, queue="parcels")
        assert (await api.wait(job.job_id, timeout=30)).status == "completed"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--handlers", "no.such"], "the handlers of 'no.such' cannot be loaded: ModuleNotFoundError"),
        (["--handlers", "json"], "the handlers of 'json' cannot be loaded: RegistrationError"),
        (["--settings", "json.Nothing"], "the handlers of 'json.Nothing' cannot be loaded"),
        ([], "FERRYMAN_HANDLERS is not set"),
    ],
)
async def test_handlers_that_cannot_be_loaded_end_the_worker(
    settings: dict[str, str], words: list[str], said: str
) -> None:
    done = await ferryman("worker", *words, environment=clean_environment(**settings))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_migrate_says_what_is_due_and_does_it(fresh_database: Database, redis_url: str) -> None:
    environment = clean_environment(**installation(fresh_database, redis_url))
    due = await ferryman("migrate", "--check", environment=environment)
    assert due.returncode == 1
    assert "0001_initial.before  due" in due.stdout
    done = await ferryman("migrate", "--output", "json", environment=environment)
    assert done.returncode == 0, done.stderr
    assert "0001_initial.before" in json.loads(done.stdout)["applied"]
    again = await ferryman("migrate", environment=environment)
    assert (again.returncode, again.stdout) == (0, "the schema is up to date\n")
    checked = await ferryman("migrate", "--check", "-o", "json", environment=environment)
    assert checked.returncode == 0
    assert json.loads(checked.stdout)["pending"] == []


async def test_migrate_says_that_nobody_is_there() -> None:
    environment = clean_environment(FERRYMAN_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/app")
    done = await ferryman("migrate", environment=environment)
    assert done.returncode == 3
    assert "ferryman doctor" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("way", ["superuser", "bypassrls"])
async def test_an_api_above_the_walls_does_not_start(
    postgres: EmbeddedPostgres, ledger_database: Database, settings: dict[str, str], way: str
) -> None:
    url = ledger_database.owner_url
    if way == "bypassrls":
        role = f"strong_{secrets.token_hex(4)}"
        postgres.sql(f"CREATE ROLE {role} LOGIN BYPASSRLS PASSWORD 'x'; GRANT ferryman_service TO {role}")
        url = postgres.url(role, "x", ledger_database.name)
    environment = clean_environment(**settings | {"FERRYMAN_DATABASE_URL": url})
    done = await ferryman("api", "--port", "0", environment=environment)
    assert done.returncode == 2, done.stderr
    assert "is a superuser or has BYPASSRLS" in done.stderr
    assert "GRANT ferryman_service TO ferryman" in done.stderr
