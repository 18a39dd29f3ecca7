"""Migrations against a database: once each, one process at a time, all or nothing."""

import asyncio
from pathlib import Path

import pytest

from ferryman.core.histogram import BOUNDS_MS, bucket
from ferryman.embedded.cluster import SERVICE_ROLE
from ferryman.ledger import migrate as module
from ferryman.ledger.migrate import (
    MigrationError,
    MigrationLockedError,
    MigrationMismatchError,
    check,
    migrate,
)
from ferryman.ports import LedgerUnavailableError
from tests.support.ledgers import connected, rows, value
from tests.support.servers import Database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_one.before.sql").write_text("CREATE TABLE ferryman.one (n int);")
    (tmp_path / "0002_two.before.sql").write_text("CREATE TABLE ferryman.two (n int);")
    (tmp_path / "0002_two.after.sql").write_text("DROP TABLE ferryman.one;")
    return tmp_path


async def test_a_database_is_brought_up_once(fresh_database: Database) -> None:
    url = fresh_database.owner_url
    before = await check(url)
    assert (before.applied, before.is_ready) == ([], False)
    said: list[str] = []
    applied = await migrate(url, service_login=SERVICE_ROLE, progress=said.append)
    assert applied == before.pending
    assert said
    assert await migrate(url, service_login=SERVICE_ROLE) == []
    after = await check(fresh_database.service_url)
    assert (after.pending, after.is_ready) == ([], True)


async def test_many_at_once_do_it_once(fresh_database: Database, folder: Path) -> None:
    applied = await asyncio.gather(*(migrate(fresh_database.owner_url, folder=folder) for _ in range(4)))
    assert sorted(len(keys) for keys in applied) == [0, 0, 0, 3]


async def test_a_check_changes_nothing(fresh_database: Database) -> None:
    await check(fresh_database.owner_url)
    assert await value(fresh_database.owner_url, "SELECT to_regnamespace('ferryman')") is None


async def test_what_comes_after_the_deployment_waits(fresh_database: Database, folder: Path) -> None:
    url = fresh_database.owner_url
    assert await migrate(url, phase="before", folder=folder) == ["0001_one.before", "0002_two.before"]
    state = await check(url, folder=folder)
    assert (state.pending, state.is_ready) == (["0002_two.after"], True)
    assert await migrate(url, phase="after", folder=folder) == ["0002_two.after"]


async def test_a_failed_file_leaves_nothing(fresh_database: Database, folder: Path) -> None:
    url = fresh_database.owner_url
    (folder / "0002_two.before.sql").write_text("CREATE TABLE ferryman.half (n int); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match=r"0002_two\.before failed: division by zero"):
        await migrate(url, folder=folder)
    assert (await check(url, folder=folder)).applied == ["0001_one.before"]
    assert await value(url, "SELECT to_regclass('ferryman.half')") is None


async def test_a_changed_file_is_refused(fresh_database: Database, folder: Path) -> None:
    await migrate(fresh_database.owner_url, folder=folder)
    (folder / "0001_one.before.sql").write_text("CREATE TABLE ferryman.other (n int);")
    with pytest.raises(MigrationMismatchError, match=r"changed .*0001_one\.before"):
        await migrate(fresh_database.owner_url, folder=folder)
    assert (await check(fresh_database.owner_url, folder=folder)).changed == ["0001_one.before"]


async def test_an_older_program_is_refused_but_may_run(fresh_database: Database, folder: Path) -> None:
    await migrate(fresh_database.owner_url, folder=folder)
    for name in ("0002_two.before.sql", "0002_two.after.sql"):
        (folder / name).unlink()
    with pytest.raises(MigrationMismatchError, match="newer"):
        await migrate(fresh_database.owner_url, folder=folder)
    assert (await check(fresh_database.owner_url, folder=folder)).is_ready


async def test_one_migrates_at_a_time(fresh_database: Database, folder: Path) -> None:
    async with connected(fresh_database.owner_url) as other:
        await other.execute("SELECT pg_advisory_lock($1)", module._LOCK_KEY)
        with pytest.raises(MigrationLockedError):
            await migrate(fresh_database.owner_url, folder=folder, lock_wait_s=0.3)


async def test_a_lock_that_does_not_come_ends_in_an_error(
    fresh_database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_TRIES", 1)
    url = fresh_database.owner_url
    await migrate(url, phase="before", folder=folder)
    async with connected(url) as other, other.transaction():
        await other.execute("SELECT * FROM ferryman.one")
        with pytest.raises(MigrationLockedError):
            await migrate(url, folder=folder)
    assert await migrate(url, folder=folder) == ["0002_two.after"]


async def test_a_missing_server_is_said(fresh_database: Database) -> None:
    with pytest.raises(LedgerUnavailableError):
        await check(fresh_database.owner_url.replace("127.0.0.1", "127.0.0.2"))


async def test_the_buckets_of_sql_are_those_of_the_core(ledger_database: Database) -> None:
    edges = sorted({0, *BOUNDS_MS, *(bound + 1 for bound in BOUNDS_MS), 10**12})
    found = await rows(
        ledger_database.owner_url,
        "SELECT ms, ferryman.bucket(ms) AS bucket FROM unnest($1::bigint[]) AS m(ms)",
        edges,
    )
    assert [(row["ms"], row["bucket"]) for row in found] == [(ms, bucket(ms)) for ms in edges]


async def test_ids_made_by_sql_are_of_version_7_and_in_order(ledger_database: Database) -> None:
    made = await rows(
        ledger_database.owner_url,
        "SELECT ferryman.uuid7(now() + g * interval '1 ms') AS id FROM generate_series(1, 100) AS g",
    )
    ids = [row["id"] for row in made]
    assert ids == sorted(ids)
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ferryman.job_audit SET actor_id = 'x'",
        "DELETE FROM ferryman.job_audit",
        "TRUNCATE ferryman.job_audit",
        "TRUNCATE ferryman.job_audit_default",
        "SELECT set_config('ferryman.pruning', 'on', false); DELETE FROM ferryman.job_audit",
    ],
)
async def test_the_service_changes_no_audit(ledger_database: Database, change: str) -> None:
    async with connected(ledger_database.service_url) as connection:
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute(change)
