"""`ferryman.enqueue`: a submission inside another application's transaction."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from ferryman.auth.principal import Principal, Role
from ferryman.core.queues import (
    BUILT_IN,
    QueueSettings,
    RetrySettings,
    TypeRetrySettings,
    TypeSettings,
)
from ferryman.embedded import EmbeddedPostgres
from ferryman.ledger.failures import sqlstate
from ferryman.ledger.pool import Pools
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.orders import Order, make_job
from tests.support.applications import Application
from tests.support.ledgers import USER, assert_books, blocked, connected, new_id, new_job, rows, value
from tests.support.servers import Database
from tests.support.stores import ACME, GLOBEX, Stores

REFUSED, WRONG, UNKNOWN, FULL = "42501", "22023", "42704", "53400"
ASKER = Asker(
    principal=Principal(subject="0", tenant_id="acme", user_id=0, roles=frozenset({Role.USER})),
    correlation_id="corr-1",
)


@pytest.fixture
async def shop(postgres: EmbeddedPostgres, ledger_database: Database) -> Application:
    """An application that submits for tenant acme."""
    return await Application(postgres, ledger_database).granted("acme")


async def enqueue(connection: Any, job_type: str = "chat", **options: Any) -> UUID:
    """One call, each option by its name."""
    names = "".join(f", {name} => ${place}" for place, name in enumerate(options, 2))
    found: UUID = await connection.fetchval(
        f"SELECT ferryman.enqueue($1{names})", job_type, *options.values()
    )
    return found


async def one(application: Application, job_type: str = "chat", **options: Any) -> UUID:
    """One call in a transaction of its own."""
    async with connected(application.url) as connection:
        return await enqueue(connection, job_type, **options)


# ------------------------------------------------------------------------------------ what is stored


async def test_everything_that_is_given_is_stored(
    shop: Application, ledger_database: Database, pools: Pools
) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    job_id = await one(
        shop,
        "invoice",
        input='{"order": 7, "lines": [1.5, null, true, {"ü": "é"}]}',
        queue="background",
        priority=100,
        run_at=at + timedelta(hours=1),
        expires_at=at + timedelta(hours=2),
        max_retries=9,
        retry_delay_ms=77,
        visibility_timeout_ms=12_345,
        timeout_ms=5_000,
        tags=["eu", "x" * 64],
        metadata='{"a": "b", "n": 1.5, "yes": true}',
        unique_key="k",
        user_id=42,
        correlation_id="corr-7",
        traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
    )
    job = await Stores.on(pools).lookup.get(ACME, job_id)
    assert job is not None
    assert json.loads(job.input) == {"order": 7, "lines": [1.5, None, True, {"ü": "é"}]}
    assert json.loads(job.metadata) == {"a": "b", "n": 1.5, "yes": True}
    assert (job.type, job.queue, job.status, job.priority) == ("invoice", "background", "scheduled", 100)
    assert (job.run_at, job.expires_at) == (at + timedelta(hours=1), at + timedelta(hours=2))
    assert (job.max_retries, job.retry_delay_ms) == (9, 77)
    assert (job.visibility_timeout_ms, job.timeout_ms) == (12_345, 5_000)
    assert (job.tags, job.unique_key) == (["eu", "x" * 64], "k")
    assert (job.user_id, job.correlation_id, job.tenant_id) == (42, "corr-7", "acme")
    (audit,) = await rows(
        ledger_database.owner_url, "SELECT * FROM ferryman.job_audit WHERE job_id = $1", job_id
    )
    assert (audit["actor_kind"], audit["actor_id"], audit["trace_id"]) == ("service", shop.role, "a" * 32)
    assert json.loads(audit["details"])["delayMs"] > 3_500_000
    await assert_books(ledger_database.owner_url)


async def test_a_null_is_an_argument_that_was_left_out(
    shop: Application, ledger_database: Database, pools: Pools
) -> None:
    left_out = dict.fromkeys(
        ("input", "queue", "priority", "delay_ms", "run_at", "ttl_ms", "expires_at", "max_retries", "tags")
    )
    job = await Stores.on(pools).lookup.get(ACME, await one(shop, **left_out))
    assert job is not None
    assert (job.input, job.queue, job.priority, job.status, job.user_id) == (
        b"{}",
        "default",
        0,
        "pending",
        0,
    )
    assert job.expires_at is None
    assert job.correlation_id == str(job.id)


async def test_delay_and_ttl_count_from_the_call(shop: Application, ledger_database: Database) -> None:
    job_id = await one(shop, delay_ms=60_000, ttl_ms=90_000)
    (row,) = await rows(
        ledger_database.owner_url,
        "SELECT run_at - created_at AS delay, expires_at - created_at AS ttl, ready_since - run_at AS ready"
        " FROM ferryman.jobs WHERE id = $1",
        job_id,
    )
    assert tuple(row) == (timedelta(minutes=1), timedelta(seconds=90), timedelta())


TYPED = {
    "invoice": TypeSettings(retry=TypeRetrySettings(max_retries=0, initial_delay_ms=5), timeout_ms=1_234),
    "chat": TypeSettings(retry=TypeRetrySettings(max_retries=8)),
    "memory": TypeSettings(retry=TypeRetrySettings(initial_delay_ms=0)),
    "a.b:c-d": TypeSettings(timeout_ms=9),
}
SETTINGS = (
    *BUILT_IN.values(),
    QueueSettings(retry=RetrySettings(max_retries=7, initial_delay_ms=11), visibility_timeout_ms=100),
    QueueSettings(retry=RetrySettings(max_retries=0, initial_delay_ms=0), types=TYPED),
    QueueSettings(types=TYPED),
)
JOB_TYPES = ("chat", "memory", "notification", "invoice", "a.b:c-d", "other")
GIVEN: tuple[dict[str, int], ...] = (
    {},
    {"max_retries": 0},
    {"retry_delay_ms": 0},
    {"max_retries": 100, "retry_delay_ms": 86_400_000, "visibility_timeout_ms": 100, "timeout_ms": 1},
)
NUMBERS = (
    "max_retries",
    "max_retries_given",
    "retry_delay_ms",
    "retry_delay_given",
    "visibility_timeout_ms",
    "timeout_ms",
)


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
async def test_the_numbers_of_sql_are_those_of_python(
    shop: Application, ledger_database: Database, pools: Pools, settings: QueueSettings
) -> None:
    await Stores.on(pools).queues.put("emails", settings, USER)
    for job_type, given in product(JOB_TYPES, GIVEN):
        order = Order(
            type=job_type, queue="emails", priority=0, input=b"{}", metadata=b"{}", tags=[], **given
        )
        wanted = make_job(order, settings, ASKER, id=new_id(), tenant_id="acme")
        job_id = await one(shop, job_type, queue="emails", **given)
        (row,) = await rows(
            ledger_database.owner_url,
            f"SELECT {', '.join(NUMBERS)} FROM ferryman.jobs WHERE id = $1",
            job_id,
        )
        assert dict(row) == {name: getattr(wanted, name) for name in NUMBERS}, (job_type, given)


# ------------------------------------------------------------------------------------ what is refused

NOW = datetime.now(UTC)
OUT_OF_BOUNDS: list[tuple[str, Any]] = [
    ("type", None),
    ("type", ""),
    ("type", "x" * 51),
    ("type", "chat\n"),
    ("type", "ch at"),
    ("input", "[]"),
    ("input", "null"),
    ("input", '"text"'),
    ("input", '{"a": 1e309}'),
    ("input", '{"a": [{"b": -1e309}]}'),
    ("input", '{"a": 1e-400}'),
    ("input", '{"a":' * 64 + "{}" + "}" * 64),
    ("input", json.dumps({"a": "x" * 1_048_577})),
    ("queue", ""),
    ("queue", "Default"),
    ("queue", "x" * 64),
    ("priority", -1),
    ("priority", 101),
    ("delay_ms", -1),
    ("delay_ms", 31_536_000_001),
    ("run_at", NOW + timedelta(days=3_700)),
    ("ttl_ms", 0),
    ("ttl_ms", 315_360_000_001),
    ("expires_at", NOW - timedelta(seconds=1)),
    ("expires_at", NOW + timedelta(days=3_700)),
    ("max_retries", -1),
    ("max_retries", 101),
    ("retry_delay_ms", -1),
    ("retry_delay_ms", 86_400_001),
    ("visibility_timeout_ms", 99),
    ("visibility_timeout_ms", 43_200_001),
    ("timeout_ms", 0),
    ("timeout_ms", 86_400_001),
    ("tags", ["x"] * 33),
    ("tags", [""]),
    ("tags", ["x" * 65]),
    ("tags", [None]),
    ("tags", [["a"], ["b"]]),
    ("metadata", "[]"),
    ("metadata", '{"a b": 1}'),
    ("metadata", '{"a": null}'),
    ("metadata", '{"a": []}'),
    ("metadata", '{"a": 1e309}'),
    ("metadata", json.dumps({f"k{n}": 1 for n in range(33)})),
    ("metadata", json.dumps({"a": "x" * 8_185})),
    ("unique_key", ""),
    ("unique_key", "x" * 201),
    ("user_id", -1),
    ("user_id", 2**31),
    ("correlation_id", "a b"),
    ("correlation_id", "x" * 129),
    ("traceparent", "00-zz"),
]
WITHIN_BOUNDS: list[tuple[str, Any]] = [
    ("type", "A-z.0_9:" + "x" * 42),
    ("input", '{"a":' * 63 + "{}" + "}" * 63),
    ("input", '{"a": [1e308, -1e308, 9223372036854775807, 5e-324, 0]}'),
    ("input", json.dumps({"a": "x" * 1_048_560})),
    ("priority", 100),
    ("delay_ms", 31_536_000_000),
    ("ttl_ms", 315_360_000_000),
    ("run_at", NOW - timedelta(days=9)),
    ("run_at", NOW + timedelta(days=3_652)),
    ("max_retries", 100),
    ("visibility_timeout_ms", 43_200_000),
    ("timeout_ms", 86_400_000),
    ("tags", ["é" * 64] * 32),
    ("tags", []),
    ("metadata", json.dumps({f"k{n}": 1 for n in range(32)})),
    ("metadata", json.dumps({"a": "x" * 8_184})),
    ("unique_key", "x" * 200),
    ("user_id", 2**31 - 1),
    ("correlation_id", "x" * 128),
]


async def test_every_bound_is_kept_and_named(shop: Application, ledger_database: Database) -> None:
    async with connected(shop.url) as connection:
        for name, wrong in OUT_OF_BOUNDS:
            given = {name: wrong}
            with pytest.raises(Exception, match=rf"ferryman\.enqueue: {name} takes .+; got ") as refusal:
                await enqueue(
                    connection, **{"job_type": given.pop("type", None)} if name == "type" else given
                )
            assert sqlstate(refusal.value) == WRONG, (name, wrong)
            assert len(str(refusal.value)) < 200
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs") == 0


async def test_what_is_within_bounds_is_taken(shop: Application, ledger_database: Database) -> None:
    async with connected(shop.url) as connection:
        for name, right in WITHIN_BOUNDS:
            await enqueue(connection, **({"job_type": right} if name == "type" else {name: right}))
    stored = await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs")
    assert stored == len(WITHIN_BOUNDS)


@pytest.mark.parametrize(
    ("both", "name"),
    [
        ({"delay_ms": 1, "run_at": NOW + timedelta(days=1)}, "run_at"),
        ({"ttl_ms": 1, "expires_at": NOW + timedelta(days=1)}, "expires_at"),
    ],
)
async def test_of_two_times_one_is_given(shop: Application, both: Any, name: str) -> None:
    with pytest.raises(Exception, match=rf"{name} takes nothing beside"):
        await one(shop, **both)


async def test_an_unknown_queue_is_refused(shop: Application) -> None:
    with pytest.raises(Exception, match='there is no queue "emails"') as refusal:
        await one(shop, queue="emails")
    assert sqlstate(refusal.value) == UNKNOWN


async def test_a_full_queue_is_refused(shop: Application, ledger_database: Database, pools: Pools) -> None:
    await Stores.on(pools).queues.put("emails", QueueSettings(max_size=2, max_backlog=1), USER)
    async with connected(shop.url) as connection, connection.transaction():
        for _ in range(3):
            await enqueue(connection, queue="emails")
        savepoint = connection.transaction()
        await savepoint.start()
        with pytest.raises(Exception, match='queue "emails" holds 3 waiting jobs') as refusal:
            await enqueue(connection, queue="emails")
        assert sqlstate(refusal.value) == FULL
        await savepoint.rollback()
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs") == 3
    await assert_books(ledger_database.owner_url)


# ------------------------------------------------------------------------------------ whose it is


async def test_the_tenant_is_the_logins(
    postgres: EmbeddedPostgres, shop: Application, ledger_database: Database, pools: Pools
) -> None:
    other = await Application(postgres, ledger_database).granted("globex")
    stores = Stores.on(pools)
    for application, own, foreign in ((shop, ACME, GLOBEX), (other, GLOBEX, ACME)):
        job_id = await one(application, unique_key="the same for both")
        assert await stores.lookup.get(own, job_id) is not None
        assert await stores.lookup.get(foreign, job_id) is None


async def test_a_stranger_may_not_call(postgres: EmbeddedPostgres, ledger_database: Database) -> None:
    stranger = Application(postgres, ledger_database)
    with pytest.raises(Exception, match="permission denied"):
        await one(stranger)


async def test_a_caller_without_a_tenant_is_told_what_to_do(ledger_database: Database) -> None:
    async with connected(ledger_database.owner_url) as connection:
        with pytest.raises(Exception, match="the role postgres was granted no tenant") as refusal:
            await enqueue(connection)
    assert sqlstate(refusal.value) == REFUSED
    assert "ferryman grants add postgres --tenant T" in refusal.value.hint  # type: ignore[attr-defined]


async def test_another_role_of_the_session_changes_nothing(
    postgres: EmbeddedPostgres, shop: Application, ledger_database: Database, pools: Pools
) -> None:
    other = await Application(postgres, ledger_database).granted("globex")
    postgres.sql(f"GRANT {other.role} TO {shop.role}")
    async with connected(shop.url) as connection:
        await connection.execute(f"SET ROLE {other.role}")
        await connection.execute("SET ferryman.tenant = 'globex'")
        job_id = await enqueue(connection)
    assert await Stores.on(pools).lookup.get(ACME, job_id) is not None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM ferryman.jobs",
        "INSERT INTO ferryman.jobs (id, tenant_id, user_id, type) VALUES (gen_random_uuid(), 'x', 1, 'x')",
        "SELECT * FROM ferryman.tenant_grants",
        "UPDATE ferryman.tenant_grants SET tenant_id = 'globex'",
        "SELECT * FROM ferryman.arrivals",
        "SELECT * FROM ferryman.queues",
        "SELECT ferryman.uuid7()",
        "SELECT ferryman.free_shard()",
        "SET ROLE ferryman_tenant",
        "SET ROLE ferryman_service",
    ],
)
async def test_a_caller_may_do_nothing_else(shop: Application, statement: str) -> None:
    async with connected(shop.url) as connection:
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute(statement)


async def test_shadows_take_over_nothing(shop: Application, ledger_database: Database, pools: Pools) -> None:
    async with connected(shop.url) as connection:
        await connection.execute(
            """
            CREATE TEMP TABLE tenant_grants AS SELECT session_user::name AS db_role, 'globex' AS tenant_id;
            CREATE TEMP TABLE jobs (id uuid);
            CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql
                AS $$ SELECT '2000-01-01'::timestamptz $$;
            CREATE FUNCTION pg_temp.coalesce_text(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
            CREATE OPERATOR pg_temp.=
                (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.coalesce_text);
            SET search_path = pg_temp, public, ferryman;
            """
        )
        job_id = await enqueue(connection)
    job = await Stores.on(pools).lookup.get(ACME, job_id)
    assert job is not None
    assert job.created_at > NOW - timedelta(days=1)


# ------------------------------------------------------------------------------------ transactions


async def test_a_rollback_leaves_nothing(shop: Application, ledger_database: Database) -> None:
    async with connected(shop.url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        for _ in range(3):
            await enqueue(connection)
        await transaction.rollback()
        async with connection.transaction():
            kept = await enqueue(connection)
            savepoint = connection.transaction()
            await savepoint.start()
            await enqueue(connection)
            await savepoint.rollback()
    for table, column in (("jobs", "id"), ("job_audit", "job_id"), ("arrivals", "job_id")):
        found = await rows(ledger_database.owner_url, f"SELECT {column} FROM ferryman.{table}")
        assert [row[0] for row in found] == [kept]
    assert await value(ledger_database.owner_url, "SELECT sum(jobs) FROM ferryman.job_stats") == 1
    await assert_books(ledger_database.owner_url)


async def test_an_open_transaction_holds_up_nobody(
    shop: Application, ledger_database: Database, pools: Pools
) -> None:
    """Neither the API's submissions of the same minute, tenant and queue, nor other callers."""
    stores = Stores.on(pools)
    async with (
        connected(shop.url) as first,
        connected(shop.url) as second,
        first.transaction(),
        second.transaction(),
    ):
        for connection in (first, second, first, second):
            async with asyncio.timeout(2):
                await enqueue(connection)
                await stores.submitted()
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs") == 8
    await assert_books(ledger_database.owner_url)


async def test_a_twin_is_answered_with_the_job_that_is_there(
    shop: Application, ledger_database: Database, pools: Pools
) -> None:
    there = await Stores.on(pools).submissions.insert(new_job(unique_key="k"), USER)
    assert await one(shop, unique_key="k") == there.id
    assert await one(shop, "memory", unique_key="k") != there.id
    await assert_books(ledger_database.owner_url)


async def test_twins_at_once_are_one(shop: Application, ledger_database: Database) -> None:
    async with connected(shop.url) as first, connected(shop.url) as second:
        transaction = first.transaction()
        await transaction.start()
        ours = await enqueue(first, unique_key="k")
        theirs = asyncio.create_task(enqueue(second, unique_key="k"))
        await blocked(ledger_database.owner_url)
        await transaction.commit()
        assert await theirs == ours
    await assert_books(ledger_database.owner_url)


async def test_a_twin_that_was_rolled_back_leaves_the_key(
    shop: Application, ledger_database: Database
) -> None:
    async with connected(shop.url) as first, connected(shop.url) as second:
        transaction = first.transaction()
        await transaction.start()
        gone = await enqueue(first, unique_key="k")
        theirs = asyncio.create_task(enqueue(second, unique_key="k"))
        await blocked(ledger_database.owner_url)
        await transaction.rollback()
        assert await theirs != gone
    await assert_books(ledger_database.owner_url)
