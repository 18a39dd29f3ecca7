"""The second wall, with the first one left out: PostgreSQL alone keeps tenants apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.webhooks import WebhookSettings
from ferryman.ledger.failures import sqlstate
from ferryman.ledger.idempotency import IdempotencyKeys
from ferryman.ledger.migrate import migrate
from ferryman.ledger.pool import Pools
from ferryman.ledger.webhooks import Webhooks
from ferryman.ports import KeyHolder, LetterFilter
from tests.support.ledgers import USER, connected, new_id, new_job, rows, value
from tests.support.poolers import PROGRAM, pooled
from tests.support.servers import Database, make_postgres
from tests.support.stores import ACME, GLOBEX, Stores

WALLED = (
    "jobs",
    "dead_letter_jobs",
    "job_audit",
    "job_stats",
    "queue_totals",
    "redrive_previews",
    "idempotency_keys",
    "webhooks",
    "webhook_secrets",
)
REFUSED = "42501"
ENDPOINT = WebhookSettings(url="https://hooks.example.com/", events=[], queues=[], types=[], enabled=True)


@pytest.fixture
async def stores(pools: Pools) -> Stores:
    """A ledger in which two tenants have rows in every table that belongs to tenants."""
    stores = Stores.on(pools)
    keys = IdempotencyKeys(pools)
    for scope in (ACME, GLOBEX):
        tenant = scope.tenant_id
        assert tenant is not None
        await stores.submitted(tenant_id=tenant, input=b'{"n": "secret"}', metadata=b'{"n": "secret"}')
        await stores.ended(tenant_id=tenant)
        await stores.dead(tenant_id=tenant)
        await stores.letters.preview(scope, LetterFilter(), max_redrives=None, batch_size=9)
        await keys.take(KeyHolder(tenant, 7, "key"), body_hash=b"hash", job_ids=[new_id()])
        await Webhooks(pools).add(tenant, new_id(), ENDPOINT, "whsec_x", USER)
    return stores


@asynccontextmanager
async def as_tenant(url: str, tenant: str | None) -> AsyncIterator[Any]:
    """A connection in a transaction of the tenants' role; None: with no tenant set."""
    async with connected(url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SET LOCAL ROLE ferryman_tenant")
        if tenant is not None:
            await connection.fetch("SELECT set_config('ferryman.tenant', $1, true)", tenant)
        yield connection
        await transaction.rollback()


@pytest.mark.parametrize("table", WALLED)
@pytest.mark.usefixtures("stores")
async def test_a_query_without_a_filter_shows_one_tenant(ledger_database: Database, table: str) -> None:
    everything = await value(
        ledger_database.owner_url,
        f"SELECT array_agg(DISTINCT tenant_id ORDER BY tenant_id) FROM ferryman.{table}",
    )
    assert everything == ["acme", "globex"]
    for tenant in ("acme", "globex"):
        async with as_tenant(ledger_database.service_url, tenant) as connection:
            found = await connection.fetch(f"SELECT DISTINCT tenant_id FROM ferryman.{table}")
            assert [row["tenant_id"] for row in found] == [tenant]
    for nobody in (None, "", "initech", "ACME", "acme "):
        async with as_tenant(ledger_database.service_url, nobody) as connection:
            assert await connection.fetchval(f"SELECT count(tenant_id) FROM ferryman.{table}") == 0


@pytest.mark.usefixtures("stores")
async def test_a_session_that_was_a_tenants_matches_nobody_afterwards(ledger_database: Database) -> None:
    async with connected(ledger_database.service_url) as connection:
        for tenant in ("acme", None):
            async with connection.transaction():
                await connection.execute("SET LOCAL ROLE ferryman_tenant")
                if tenant:
                    await connection.fetch("SELECT set_config('ferryman.tenant', $1, true)", tenant)
                seen = await connection.fetchval("SELECT count(*) FROM ferryman.jobs")
                assert seen == (3 if tenant else 0)
        assert await connection.fetchval("SELECT current_setting('ferryman.tenant')") == ""


CHANGES = (
    "UPDATE ferryman.jobs SET status = 'cancelled', claim_token = NULL WHERE tenant_id = 'globex'",
    "DELETE FROM ferryman.jobs WHERE tenant_id = 'globex'",
    "UPDATE ferryman.dead_letter_jobs SET status = 'discarded' WHERE tenant_id = 'globex'",
    "DELETE FROM ferryman.dead_letter_jobs WHERE tenant_id = 'globex'",
    "UPDATE ferryman.job_stats SET jobs = 0 WHERE tenant_id = 'globex'",
    "UPDATE ferryman.redrive_previews SET spent_at = now() WHERE tenant_id = 'globex'",
    "DELETE FROM ferryman.redrive_previews WHERE tenant_id = 'globex'",
    "DELETE FROM ferryman.idempotency_keys WHERE tenant_id = 'globex'",
    "DELETE FROM ferryman.jobs WHERE status = 'pending'",
    "UPDATE ferryman.webhooks SET url = 'https://evil.example.com/' WHERE tenant_id = 'globex'",
    "DELETE FROM ferryman.webhooks WHERE tenant_id = 'globex'",
    "UPDATE ferryman.webhook_secrets SET expires_at = now() WHERE tenant_id = 'globex'",
)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("stores")
async def test_a_change_reaches_no_row_of_another_tenant(ledger_database: Database, change: str) -> None:
    async with as_tenant(ledger_database.service_url, "acme") as connection:
        assert (await connection.execute(change)).endswith(" 0")


FORBIDDEN = (
    "INSERT INTO ferryman.jobs (id, tenant_id, user_id, type) VALUES (gen_random_uuid(), 'acme', 1, 'chat')",
    "UPDATE ferryman.jobs SET tenant_id = 'globex'",
    "UPDATE ferryman.jobs SET input_data = '{}'",
    "UPDATE ferryman.jobs SET user_id = 1",
    "UPDATE ferryman.dead_letter_jobs SET input_data = '{}'",
    "INSERT INTO ferryman.job_audit (tenant_id, actor_kind, actor_id, action)"
    " VALUES ('globex', 'user', '1', 'cancelled')",
    "INSERT INTO ferryman.job_audit (tenant_id, actor_kind, actor_id, action)"
    " VALUES (NULL, 'user', '1', 'queue_deleted')",
    "INSERT INTO ferryman.job_stats"
    " (minute, tenant_id, queue_name, type, outcome, shard, wait_bucket, run_bucket)"
    " VALUES (now(), 'globex', 'default', 'chat', 'submitted', 0, 0, 0)",
    "UPDATE ferryman.queue_totals SET arrivals = 0",
    "UPDATE ferryman.queues SET updated_at = now()",
    "UPDATE ferryman.queues SET paused = true",
    "DELETE FROM ferryman.queues",
    "SELECT id FROM ferryman.workers",
    "SELECT * FROM ferryman.leaders",
    "SELECT * FROM ferryman.schema_migrations",
    "SELECT body_hash FROM ferryman.idempotency_keys",
    "SELECT secret FROM ferryman.webhook_secrets",
    "SELECT * FROM ferryman.webhook_cursors",
    "UPDATE ferryman.webhook_secrets SET secret = 'mine'",
    "UPDATE ferryman.webhooks SET tenant_id = 'globex'",
    "INSERT INTO ferryman.webhook_secrets (webhook_id, tenant_id, secret)"
    " VALUES (gen_random_uuid(), 'globex', 'x')",
    "SELECT * FROM ferryman.job_audit_default",
    "SELECT ferryman.prune_audit('default', now(), 1)",
    "SELECT ferryman.drop_audit_days(now())",
    "SELECT ferryman.ensure_audit_partitions(1)",
    "SELECT ferryman.wall('ferryman.jobs')",
    "TRUNCATE ferryman.jobs",
    "CREATE TABLE ferryman.mine (n int)",
    "ALTER TABLE ferryman.jobs DISABLE ROW LEVEL SECURITY",
    "SET SESSION AUTHORIZATION postgres",
)


@pytest.mark.parametrize("statement", FORBIDDEN)
@pytest.mark.usefixtures("stores")
async def test_what_no_tenant_may(ledger_database: Database, statement: str) -> None:
    async with as_tenant(ledger_database.service_url, "acme") as connection:
        with pytest.raises(Exception, match=r"denied|must be owner|violates row-level security") as refusal:
            await connection.execute(statement)
        assert sqlstate(refusal.value) == REFUSED


PROBES = (
    "SELECT count(*) FROM ferryman.jobs WHERE (metadata ->> 'n')::int > 0",
    "SELECT count(*) FROM ferryman.jobs WHERE 1 / (length(input_data ->> 'n') - 6) > 0",
    "SELECT count(*) FROM ferryman.jobs WHERE tenant_id = 'globex' AND (metadata ->> 'n')::int > 0",
)


@pytest.mark.parametrize("probe", PROBES)
async def test_an_error_tells_nothing_of_foreign_rows(
    ledger_database: Database, pools: Pools, probe: str
) -> None:
    stores = Stores.on(pools)
    await stores.submitted(tenant_id="globex", input=b'{"n": "secret"}', metadata=b'{"n": "secret"}')
    await stores.submitted(tenant_id="acme", input=b'{"n": "7"}', metadata=b'{"n": "7"}')
    async with connected(ledger_database.owner_url) as connection:
        with pytest.raises(Exception, match=r"invalid input syntax|division by zero"):
            await connection.fetchval(probe)
    async with as_tenant(ledger_database.service_url, "acme") as connection:
        assert await connection.fetchval(probe) is not None


@pytest.mark.parametrize("change", ["UPDATE {} SET actor_id = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("role", ["owner", "service", "tenant"])
@pytest.mark.usefixtures("stores")
async def test_the_audit_takes_nothing_but_rows(ledger_database: Database, role: str, change: str) -> None:
    owner_url = ledger_database.owner_url
    today = await value(owner_url, "SELECT tableoid::regclass::text FROM ferryman.job_audit")
    await value(
        owner_url,
        "INSERT INTO ferryman.job_audit (at, tenant_id, actor_kind, actor_id, action)"
        " VALUES (now() - interval '30 days', 'acme', 'user', '1', 'submitted')",
    )
    before = await value(owner_url, "SELECT count(*) FROM ferryman.job_audit")
    for name in ("ferryman.job_audit", "ferryman.job_audit_default", today):
        async with connected(owner_url if role == "owner" else ledger_database.service_url) as connection:
            with pytest.raises(Exception, match=r"permission denied|append-only"):
                await _attempt(connection, role, change.format(name))
    assert await value(owner_url, "SELECT count(*) FROM ferryman.job_audit") == before


async def _attempt(connection: Any, role: str, change: str) -> None:
    async with connection.transaction():
        if role == "tenant":
            await connection.execute("SET LOCAL ROLE ferryman_tenant")
            await connection.fetch("SELECT set_config('ferryman.tenant', 'acme', true)")
        await connection.execute(change)


@pytest.mark.parametrize("way", ["direct", *(["pooler"] if PROGRAM else [])])
async def test_fifty_tenants_share_two_connections(
    ledger_database: Database, pools: Pools, server_dir: Path, way: str
) -> None:
    tenants = [f"tenant-{number}" for number in range(49)] + ["O'Brien; \\x27 \u2028 ß"]
    inserted = await asyncio.gather(
        *(Stores.on(pools).submissions.insert(new_job(tenant_id=tenant), USER) for tenant in tenants)
    )
    with _address(ledger_database, server_dir, way) as url:
        shared = Pools(
            url, connections=2, readers=8 if way == "pooler" else 2, pooler=way == "pooler", shard=1
        )
        try:
            await asyncio.gather(
                *(_only_its_own(shared, one.tenant_id, one.id) for one in inserted for _ in range(4)),
                *(_all_of_them(shared, len(tenants)) for _ in range(20)),
            )
        finally:
            await shared.close()


@contextmanager
def _address(database: Database, folder: Path, way: str) -> Iterator[str]:
    if way == "direct":
        yield database.service_url
    else:
        with pooled(database.service_url, folder, servers=2) as url:
            yield url


async def _only_its_own(pools: Pools, tenant: str, job_id: Any) -> None:
    walled = pools.as_tenant(tenant)
    for reach in (walled.read, walled.hot):
        found = await reach.fetch("SELECT id, tenant_id FROM ferryman.jobs")
        assert [(row["id"], row["tenant_id"]) for row in found] == [(job_id, tenant)]


async def _all_of_them(pools: Pools, count: int) -> None:
    # The same text as above, so that one prepared statement serves both sides of the wall.
    assert len(await pools.read.fetch("SELECT id, tenant_id FROM ferryman.jobs")) == count


async def test_a_failed_use_leaves_no_role_behind(pools: Pools) -> None:
    stores = Stores.on(pools)
    await stores.submitted()
    await stores.submitted(tenant_id="globex")
    one = Pools(pools._url, connections=1, readers=1)
    try:
        with pytest.raises(Exception, match="cannot do this now"):
            await one.as_tenant("acme").read.fetch("SELECT * FROM ferryman.leaders")
        with pytest.raises(ZeroDivisionError):
            async with one.as_tenant("acme").read.held():
                raise ZeroDivisionError
        row = await one.read.fetchrow("SELECT current_user AS who, count(*) AS jobs FROM ferryman.jobs")
        assert (row["who"], row["jobs"]) == ("ferryman", 2)
    finally:
        await one.close()


async def test_a_small_installation_serves_as_the_owner(server_dir: Path) -> None:
    """One login that is no superuser migrates and serves: FORCE and the owner's own policy let it."""
    with make_postgres(server_dir) as server:
        server.sql("CREATE ROLE small LOGIN CREATEROLE PASSWORD 'small'; CREATE DATABASE small OWNER small;")
        url = server.url("small", "small", "small")
        await migrate(url)
        pools = Pools(url)
        stores = Stores.on(pools)
        try:
            for tenant in ("acme", "globex"):
                await stores.submitted(tenant_id=tenant)
            job_id = await stores.ended()
            assert (await stores.lookup.get(ACME, job_id)) is not None
            assert (await stores.lookup.get(GLOBEX, job_id)) is None
            found = await pools.as_tenant("acme").read.fetch("SELECT DISTINCT tenant_id FROM ferryman.jobs")
            assert [row["tenant_id"] for row in found] == ["acme"]
            tomorrow = "SELECT ferryman.drop_audit_days(now() + interval '2 days') AS gone"
            counted = await pools.hot.fetchrow("SELECT count(*) AS rows FROM ferryman.job_audit")
            assert (await pools.hot.fetchrow(tomorrow))["gone"] == counted["rows"] > 0
        finally:
            await pools.close()


# ------------------------------------------------------------------------------------------ the catalogue


async def test_every_table_of_tenants_is_behind_the_wall(ledger_database: Database) -> None:
    tables = await rows(
        ledger_database.owner_url,
        """
        SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced,
            EXISTS (
                SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant_id' AND NOT attisdropped
            ) AS has_tenant,
            ARRAY(
                SELECT polname::text || ' ' || pg_get_expr(polqual, polrelid) FROM pg_policy
                WHERE polrelid = c.oid AND polpermissive ORDER BY polname
            ) AS policies
        FROM pg_class AS c
        WHERE c.relnamespace = 'ferryman'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        """,
    )
    of_tenants = {row["name"]: row for row in tables if row["has_tenant"]}
    assert set(WALLED) <= set(of_tenants)
    for name, row in of_tenants.items():
        assert row["forced"], f"{name} lacks SELECT ferryman.wall('ferryman.{name}')"
        assert len(row["policies"]) == 2
        assert row["policies"][0] == "engine true"
        assert row["policies"][1].startswith("tenant ((tenant_id)::text = NULLIF(current_setting(")


async def test_nobody_has_rights_on_a_partition(ledger_database: Database) -> None:
    parts = await rows(
        ledger_database.owner_url,
        """
        SELECT relname AS name, relrowsecurity AND relforcerowsecurity AS forced, relacl,
            EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid) AS has_policy
        FROM pg_class
        WHERE relnamespace = 'ferryman'::regnamespace AND relispartition AND relkind = 'r'
        """,
    )
    assert len(parts) > 7
    assert {(row["forced"], row["relacl"], row["has_policy"]) for row in parts} == {(True, None, False)}


async def test_no_view_and_no_function_leads_around_the_wall(ledger_database: Database) -> None:
    views = await rows(
        ledger_database.owner_url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'ferryman'::regnamespace AND (relkind = 'm'"
        " OR relkind = 'v' AND NOT coalesce(reloptions @> ARRAY['security_invoker=true'], false))",
    )
    assert views == []
    functions = await rows(
        ledger_database.owner_url,
        """
        SELECT proname AS name, prosecdef AS definer,
            coalesce(array_to_string(proconfig, ' '), '') AS settings,
            has_function_privilege('ferryman_tenant', oid, 'EXECUTE') AS by_tenant,
            EXISTS (
                SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0
            ) AS by_anybody
        FROM pg_proc WHERE pronamespace = 'ferryman'::regnamespace
        """,
    )
    assert {row["name"] for row in functions if row["by_tenant"]} == {"uuid7"}
    assert {row["name"] for row in functions if row["by_anybody"]} == set()
    for row in functions:
        if row["definer"]:
            assert "search_path=pg_catalog, ferryman, pg_temp" in row["settings"], row["name"]


async def test_the_roles_are_weak(ledger_database: Database) -> None:
    roles = await rows(
        ledger_database.owner_url,
        "SELECT rolname, rolcanlogin,"
        " rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication AS strong"
        " FROM pg_roles WHERE rolname IN ('ferryman_service', 'ferryman_tenant', 'ferryman')"
        " ORDER BY rolname",
    )
    assert [(row["rolname"], row["strong"], row["rolcanlogin"]) for row in roles] == [
        ("ferryman", False, True),
        ("ferryman_service", False, False),
        ("ferryman_tenant", False, False),
    ]


async def test_a_new_partition_is_behind_the_wall(ledger_database: Database) -> None:
    url = ledger_database.owner_url
    await value(url, "SELECT ferryman.ensure_audit_partitions(14)")
    await test_nobody_has_rights_on_a_partition(ledger_database)
