"""`ferryman dev`: the pipeline on one machine, its parts restarted when they die, gone or kept at the end."""

import asyncio
import os
import pty
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ferryman.client import Client
from tests.support.commands import Dev, clean_environment, ferryman, is_alive, running, running_dev
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
async def dev() -> AsyncIterator[Dev]:
    """One stack for all tests that leave it whole."""
    async with running_dev("--queue", "emails", FERRYMAN_TEST_MARK="handed-on") as running_stack:
        yield running_stack


def pids(told: dict[str, Any]) -> list[int]:
    return [told["pids"]["api"], *told["pids"]["workers"], told["pids"]["postgres"], told["pids"]["redis"]]


async def test_ready_file_tells_everything_to_its_owner_alone(dev: Dev) -> None:
    assert stat.S_IMODE(dev.ready_file.stat().st_mode) == 0o600
    assert set(dev.told) == {
        "url",
        "token",
        "jwtSecret",
        "serviceToken",
        "databaseUrl",
        "ownerDatabaseUrl",
        "redisUrl",
        "pids",
    }
    assert len(dev.told["pids"]["workers"]) == 2
    assert len({*pids(dev.told)}) == 5
    assert all(is_alive(pid) for pid in pids(dev.told))


async def test_request_of_the_contract_works_as_it_stands(dev: Dev) -> None:
    body = {"message": "Test enterprise job pipeline", "type": "chat"}
    headers = {"Authorization": f"Bearer {dev.told['token']}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{dev.told['url']}/api/jobs", json=body) as answer,
    ):
        assert answer.status == 201
        submitted = await answer.json()
        assert answer.headers["Location"] == f"/api/jobs/{submitted['jobId']}"
    assert (submitted["status"], submitted["queue"]) == ("pending", "default")
    async with Client(dev.told["url"], dev.told["token"]) as client:
        job = await client.wait(submitted["jobId"], timeout=20)
    assert job.output == {"reply": "TEST ENTERPRISE JOB PIPELINE", "words": 4}


async def test_it_prints_a_request_that_works(dev: Dev) -> None:
    line = next(line for line in dev.command.output.splitlines() if "curl" in line).partition("curl")[2]
    shell = await asyncio.create_subprocess_shell(
        f"curl --silent {line}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, _ = await shell.communicate()
    assert b'"status":"pending"' in out


async def test_commands_work_through_it(dev: Dev) -> None:
    words = ["jobs", "submit", "notification", "--queue", "emails", "--input", '{"to": "Ann"}', "--wait"]
    done = await ferryman(*words, environment=dev.environment)
    assert done.returncode == 0, done.stderr
    assert "✓ completed" in done.stdout
    listed = await ferryman("jobs", "list", "--queue", "emails", environment=dev.environment)
    assert "notification" in listed.stdout
    watched = await ferryman("jobs", "watch", done.stdout.split()[1], environment=dev.environment)
    assert (watched.returncode, watched.stdout.count("\n")) == (0, 1)


async def test_watch_draws_on_a_terminal_until_ctrl_c(dev: Dev) -> None:
    async with Client(dev.told["url"], dev.told["token"]) as client:
        job = await client.submit("report", {"steps": 200, "step_ms": 100})
        screen, terminal = pty.openpty()
        watch = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ferryman.cli.main", "jobs", "watch", "--type", "report"),
            env=dev.environment | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        drawn = b""
        while b"of 200" not in drawn:
            drawn += await asyncio.wait_for(asyncio.to_thread(os.read, screen, 65_536), 20)
        watch.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(watch.wait(), 10) == 0
        os.close(screen)
        await client.cancel(job.job_id)
    assert "▶ running".encode() in drawn
    assert job.job_id.encode() in drawn


async def test_processes_see_the_callers_environment_but_not_the_owners_database(dev: Dev) -> None:
    for pid in (dev.told["pids"]["api"], *dev.told["pids"]["workers"]):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"FERRYMAN_TEST_MARK=handed-on" in environment
        assert dev.told["databaseUrl"].encode() in environment
        assert b"FERRYMAN_OWNER_DATABASE_URL" not in environment


async def test_no_command_line_shows_a_secret(dev: Dev) -> None:
    told = dev.told
    secrets = [told["jwtSecret"], told["token"], told["serviceToken"], told["databaseUrl"], told["redisUrl"]]
    for pid in (*pids(told), dev.command.process.pid):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert not any(secret in line for secret in secrets)


async def test_another_stack_runs_beside_it_and_leaves_nothing(dev: Dev) -> None:
    async with running_dev("--workers", "1") as other:
        told = other.told
        assert told["url"] != dev.told["url"]
        async with Client(told["url"], told["token"]) as client:
            assert (await client.list()).jobs == []
        assert await other.command.stop(signal.SIGINT) == 0
        assert not other.ready_file.exists()
    assert not any(is_alive(pid) for pid in pids(told))
    assert is_alive(dev.told["pids"]["api"])


async def test_taken_port_is_told(dev: Dev) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = await ferryman("dev", "--port", port, environment=clean_environment())
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr
    assert "--port 0" in done.stderr


async def test_handlers_that_cannot_be_loaded_are_told() -> None:
    words = ["dev", "--port", "0", "--workers", "1", "--handlers", "no.such.module"]
    done = await ferryman(*words, environment=clean_environment())
    assert done.returncode == 1
    assert "the handlers of 'no.such.module' cannot be loaded" in done.stderr
    assert "does not stay up" in done.stderr


async def test_each_part_is_started_again_and_the_ready_file_follows() -> None:
    async with running_dev() as dev:
        before = dev.told
        async with Client(before["url"], before["token"], tries=1) as client:
            waiting = await client.submit("chat", {"message": "later"}, delay_ms=3_000)
            for pid in pids(before):
                os.kill(pid, signal.SIGKILL)

            async def look() -> dict[str, Any]:
                return dev.told

            after = await eventually(look, lambda told: not {*pids(told)} & {*pids(before)}, within_s=30)
            assert {k: v for k, v in after.items() if k != "pids"} == {
                k: v for k, v in before.items() if k != "pids"
            }
        async with Client(before["url"], before["token"], tries=10) as client:
            assert (await client.wait(waiting.job_id, timeout=30)).status == "completed"
            fresh = await client.submit("chat", {"message": "after"})
            assert (await client.wait(fresh.job_id, timeout=20)).status == "completed"


async def test_data_directory_keeps_everything(server_dir: Path) -> None:
    async with running_dev("--data-dir", str(server_dir), "--queue", "emails") as dev:
        first = dev.told
        async with Client(first["url"], first["token"]) as client:
            done = await client.submit("chat", {"message": "kept"}, queue="emails")
            await client.wait(done.job_id, timeout=20)
            waiting = await client.submit("chat", {"message": "later"}, delay_ms=8_000)
        assert await dev.command.stop() == 0
    assert stat.S_IMODE((server_dir / "jwt-secret").stat().st_mode) == 0o600
    async with running_dev("--data-dir", str(server_dir)) as dev:
        second = dev.told
        assert second["jwtSecret"] == first["jwtSecret"]
        async with Client(second["url"], first["token"]) as client:
            assert (await client.get(done.job_id)).status == "completed"
            assert (await client.wait(waiting.job_id, timeout=30)).status == "completed"
            assert (await client.call("GET", "/api/queues/emails"))["queue"] == "emails"


async def test_stop_lets_running_jobs_end() -> None:
    async with running_dev("--workers", "1") as dev:
        told = dev.told
        async with Client(told["url"], told["token"]) as client:
            job = await client.submit("report", {"steps": 1, "step_ms": 2_000})

            async def status() -> str:
                return (await client.get(job.job_id)).status

            await eventually(status, lambda seen: seen == "running")
        assert await dev.command.stop(signal.SIGINT) == 0
        assert '"completed": 1' in dev.command.output or "completed=1" in dev.command.output


async def test_everybody_ends_with_a_killed_dev(server_dir: Path) -> None:
    environment = {"FERRYMAN_SHUTDOWN_GRACE_SECONDS": "1", "TMPDIR": str(server_dir)}
    async with running_dev("--workers", "1", **environment) as dev:
        told = dev.told
        dev.command.process.kill()

        async def alive() -> list[int]:
            return [pid for pid in pids(told) if is_alive(pid)]

        await eventually(alive, lambda seen: not seen, within_s=20)


async def test_interrupted_start_leaves_nothing(server_dir: Path) -> None:
    words = ["dev", "--port", "0", "--ready-file", str(server_dir / "ready.json")]
    async with running(*words, environment=clean_environment(TMPDIR=str(server_dir))) as command:

        async def servers() -> list[Path]:
            return list(server_dir.glob("ferryman-*"))

        await eventually(servers, within_s=20)
        assert await command.stop(signal.SIGINT) == 0
    assert list(server_dir.iterdir()) == []


async def test_queues_file_is_followed(tmp_path: Path) -> None:
    queues = tmp_path / "queues.toml"
    queues.write_text("[queues.invoices]\nmaxSize = 3\n[queues.invoices.retry]\nmaxRetries = 1\n")
    async with (
        running_dev("--workers", "1", FERRYMAN_QUEUES_FILE=str(queues)) as dev,
        Client(dev.told["url"], dev.told["token"]) as client,
    ):

        async def settings() -> Any:
            return await client.call("GET", "/api/queues/invoices")

        made = await eventually(settings, lambda seen: seen["maxSize"] == 3)
        assert made["retry"]["maxRetries"] == 1
        job = await client.submit("chat", {"message": "x"}, queue="invoices")
        assert (await client.wait(job.job_id, timeout=20)).status == "completed"
