"""`ferryman doctor` on installations that are well, and on ones that are not."""

import json
from typing import Any

import pytest
import redis

from tests.support.commands import clean_environment, ferryman, installation
from tests.support.ledgers import connected
from tests.support.servers import Database


@pytest.fixture
def settings(ledger_database: Database, redis_url: str) -> dict[str, str]:
    return installation(ledger_database, redis_url)


async def findings(settings: dict[str, str]) -> tuple[int, list[dict[str, Any]]]:
    done = await ferryman("doctor", "--output", "json", environment=clean_environment(**settings))
    document = json.loads(done.stdout)
    assert done.returncode == (1 if document["problems"] else 0)
    return document["problems"], document["findings"]


def texts(found: list[dict[str, Any]], severity: str) -> str:
    return "\n".join(
        f"{f['subject']}: {f['text']} → {f['remedy']}" for f in found if f["severity"] == severity
    )


async def test_installation_without_workers_works_but_is_warned(settings: dict[str, str]) -> None:
    problems, found = await findings(settings)
    assert problems == 0
    good = texts(found, "good")
    for subject in ("configuration", "PostgreSQL", "schema", "clock", "queues", "Redis"):
        assert f"{subject}: " in good
    assert "fsync on" in good
    assert "workers: none is running → ferryman worker" in texts(found, "warning")


async def test_lines_for_people_carry_mark_and_next_step(settings: dict[str, str]) -> None:
    done = await ferryman("doctor", environment=clean_environment(**settings))
    assert done.returncode == 0
    assert "  ✓ PostgreSQL" in done.stdout
    assert "  ! workers        none is running      → ferryman worker" in done.stdout
    assert done.stdout.endswith("0 problems, 1 warnings\n")


async def test_empty_database_is_to_be_migrated(fresh_database: Database, redis_url: str) -> None:
    problems, found = await findings(installation(fresh_database, redis_url))
    assert problems == 1
    assert "→ ferryman migrate" in texts(found, "problem")


async def test_evicting_redis_is_a_problem(settings: dict[str, str]) -> None:
    with redis.Redis.from_url(settings["FERRYMAN_REDIS_URL"]) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            problems, found = await findings(settings)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert problems == 1
    assert "maxmemory-policy is allkeys-lru" in texts(found, "problem")
    assert "CONFIG SET maxmemory-policy noeviction" in texts(found, "problem")


async def test_absent_servers_are_problems_without_secrets(settings: dict[str, str]) -> None:
    gone = {
        "FERRYMAN_DATABASE_URL": "postgresql://ferryman:hunter2@127.0.0.1:1/ferryman",
        "FERRYMAN_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0",
        "FERRYMAN_API_URL": "http://127.0.0.1:1",
    }
    problems, found = await findings(settings | gone)
    assert problems == 3
    told = texts(found, "problem")
    assert all(f"{subject}: " in told for subject in ("PostgreSQL", "Redis", "API"))
    assert "hunter2" not in told


async def test_wrong_and_unknown_variables_are_found(settings: dict[str, str]) -> None:
    strange = {"FERRYMAN_PORT": "eighty", "FERRYMAN_REDIS_ULR": "x"}
    problems, found = await findings(settings | strange)
    assert problems == 1
    assert "FERRYMAN_PORT is wrong" in texts(found, "problem")
    assert "rename it to FERRYMAN_REDIS_URL" in texts(found, "warning")


async def test_jobs_that_nobody_can_run_and_paused_queues_are_warned_of(
    settings: dict[str, str], ledger_database: Database
) -> None:
    async with connected(ledger_database.owner_url) as connection:
        await connection.execute(
            "INSERT INTO ferryman.jobs (id, tenant_id, user_id, type) "
            "VALUES (ferryman.uuid7(), 'acme', 1, 'invoice')"
        )
        await connection.execute("UPDATE ferryman.queues SET paused = true WHERE name = 'background'")
        await connection.execute(
            """UPDATE ferryman.queues SET settings = settings || '{"maxSize": 1, "maxBacklog": 0}'"""
            " WHERE name = 'default'"
        )
    problems, found = await findings(settings)
    assert problems == 0
    warned = texts(found, "warning")
    assert 'none on queue default knows type "invoice": 1 jobs wait' in warned
    assert "background is paused → ferryman queues resume background" in warned
    assert "default is full: 1 jobs wait" in warned


async def test_with_an_address_alone_only_the_api_is_asked() -> None:
    problems, found = await findings({"FERRYMAN_API_URL": "http://127.0.0.1:1"})
    assert problems == 1
    assert [f["subject"] for f in found] == ["configuration", "API"]


async def test_a_login_above_the_walls_is_a_problem(
    settings: dict[str, str], ledger_database: Database
) -> None:
    problems, found = await findings(settings | {"FERRYMAN_DATABASE_URL": ledger_database.owner_url})
    assert problems == 1
    assert "postgres is above row-level security" in texts(found, "problem")
    assert "GRANT ferryman_service TO ferryman" in texts(found, "problem")
