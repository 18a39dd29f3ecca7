"""The relay: each event becomes one delivery to each endpoint that wants it, whatever dies or races."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from ferryman.core.webhooks import WEBHOOK_QUEUE, WebhookSettings, delivery_id
from ferryman.ledger import relay as relay_module
from ferryman.ledger.pool import Pools
from ferryman.ledger.webhooks import Webhooks
from tests.support.ledgers import USER, assert_books, connected, new_id, rows, value
from tests.support.receivers import at_rest
from tests.support.servers import Database
from tests.support.stores import Stores


@pytest.fixture
def stores(pools: Pools) -> Stores:
    return Stores.on(pools)


@pytest.fixture
def webhooks(pools: Pools) -> Webhooks:
    return Webhooks(pools)


async def endpoint(webhooks: Webhooks, tenant: str = "acme", **fields: Any) -> UUID:
    given: dict[str, Any] = {"events": [], "queues": [], "types": [], "enabled": True, **fields}
    settings = WebhookSettings(url="https://hooks.example.com/", **given)
    webhook_id = new_id()
    assert await webhooks.add(tenant, webhook_id, settings, "whsec_x", USER)
    return webhook_id


async def relay_all(webhooks: Webhooks) -> int:
    """How many deliveries were made until nothing was left to read."""
    made = 0
    while (relayed := await webhooks.relay()).read:
        made += len(relayed.positions)
    return made


async def deliveries(database: Database) -> list[tuple[str, str, str]]:
    """Endpoint, event and job of each delivery."""
    found = await rows(
        database.owner_url,
        "SELECT metadata ->> 'webhookId' AS hook, metadata ->> 'event' AS event, metadata ->> 'jobId' AS job"
        " FROM ferryman.jobs WHERE queue_name = $1 ORDER BY id",
        WEBHOOK_QUEUE,
    )
    return [(row["hook"], row["event"], row["job"]) for row in found]


async def test_while_nobody_listens_nothing_is_read_and_nothing_written(
    stores: Stores, webhooks: Webhooks, ledger_database: Database
) -> None:
    await stores.ended()
    await endpoint(webhooks, enabled=False)
    assert (await webhooks.relay()).read == 0
    assert await value(ledger_database.owner_url, "SELECT xid::text FROM ferryman.webhook_cursors") == "0"


async def test_what_was_before_an_endpoint_is_not_told_and_what_comes_after_is(
    stores: Stores, webhooks: Webhooks, ledger_database: Database
) -> None:
    await stores.ended()
    hook = await endpoint(webhooks)
    job_id = await stores.ended()
    await at_rest(ledger_database.owner_url)
    assert await relay_all(webhooks) == 3
    expected = [(str(hook), f"job.{name}", str(job_id)) for name in ("submitted", "claimed", "completed")]
    assert sorted(await deliveries(ledger_database)) == sorted(expected)
    await at_rest(ledger_database.owner_url)
    assert await relay_all(webhooks) == 0
    await assert_books(ledger_database.owner_url)


async def test_each_endpoint_gets_what_it_wants_of_its_own_tenant(
    stores: Stores, webhooks: Webhooks, ledger_database: Database
) -> None:
    ended = await endpoint(webhooks, events=["job.completed", "job.dead_lettered"])
    chats = await endpoint(webhooks, events=["job.completed"], types=["chat"], queues=["background"])
    foreign = await endpoint(webhooks, "globex", events=["job.completed"])
    first, second = await stores.ended(), await stores.dead()
    third = await stores.ended(queue="background", type="chat")
    theirs = await stores.ended(tenant_id="globex")
    await at_rest(ledger_database.owner_url)
    await relay_all(webhooks)
    assert sorted(await deliveries(ledger_database)) == sorted(
        [
            (str(ended), "job.completed", str(first)),
            (str(ended), "job.dead_lettered", str(second)),
            (str(ended), "job.completed", str(third)),
            (str(chats), "job.completed", str(third)),
            (str(foreign), "job.completed", str(theirs)),
        ]
    )


async def test_an_event_waits_for_older_transactions_and_is_not_lost(
    stores: Stores, webhooks: Webhooks, ledger_database: Database
) -> None:
    """A row of an older transaction that commits after a younger one was read would lie behind the cursor."""
    await endpoint(webhooks, events=["job.submitted"])
    async with connected(ledger_database.owner_url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT pg_current_xact_id()")
        younger = await stores.submitted()
        assert await relay_all(webhooks) == 0
        await connection.execute(
            "INSERT INTO ferryman.job_audit"
            " (tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name)"
            " VALUES ('acme', 'user', '1', 'submitted', $1, 'chat', 'default')",
            older := new_id(),
        )
        await transaction.commit()
    await at_rest(ledger_database.owner_url)
    assert await relay_all(webhooks) == 2
    assert {job for _, _, job in await deliveries(ledger_database)} == {str(younger), str(older)}


async def test_a_death_between_read_and_insert_loses_and_doubles_nothing(
    stores: Stores, webhooks: Webhooks, ledger_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await endpoint(webhooks, events=["job.completed"])
    expected = {str(await stores.ended()) for _ in range(3)}

    def die(_: str) -> None:
        raise RuntimeError("killed")

    await at_rest(ledger_database.owner_url)
    with monkeypatch.context() as patched:
        patched.setattr(relay_module, "reach", die)
        with pytest.raises(RuntimeError, match="killed"):
            await webhooks.relay()
    assert await deliveries(ledger_database) == []
    await at_rest(ledger_database.owner_url)
    assert await relay_all(webhooks) == 3
    assert {job for _, _, job in await deliveries(ledger_database)} == expected


async def test_relays_at_once_make_each_delivery_once(
    stores: Stores, webhooks: Webhooks, ledger_database: Database
) -> None:
    hooks = [await endpoint(webhooks, tenant) for tenant in ("acme", "globex") for _ in range(2)]
    for _ in range(40):
        await stores.submitted()
        await stores.submitted(tenant_id="globex")
    await at_rest(ledger_database.owner_url)
    made = await asyncio.gather(*(relay_all(webhooks) for _ in range(3)))
    assert sum(made) == 160
    found = await deliveries(ledger_database)
    assert len(set(found)) == len(found) == 160
    assert {hook for hook, _, _ in found} == {str(hook) for hook in hooks}


async def test_a_whole_transaction_of_events_goes_over_several_steps(
    stores: Stores, webhooks: Webhooks, ledger_database: Database
) -> None:
    """Rows of one transaction share their place in the order but for their ids."""
    await endpoint(webhooks)
    await ledger_rows(ledger_database, 250)
    await at_rest(ledger_database.owner_url)
    steps = [await webhooks.relay() for _ in range(4)]
    assert [step.read for step in steps] == [100, 100, 51, 0]  # with the row of the endpoint itself
    assert len(set(await deliveries(ledger_database))) == 250


async def ledger_rows(database: Database, count: int) -> None:
    await rows(
        database.owner_url,
        "INSERT INTO ferryman.job_audit"
        " (tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name)"
        " SELECT 'acme', 'user', '1', 'submitted', ferryman.uuid7(clock_timestamp()), 'chat', 'default'"
        " FROM generate_series(1, $1::integer)",
        count,
    )


async def test_an_endpoint_that_slept_hears_of_what_happens_from_then_on(
    stores: Stores, webhooks: Webhooks, ledger_database: Database
) -> None:
    hook = await endpoint(webhooks, events=["job.submitted"], enabled=False)
    await stores.submitted()
    settings = WebhookSettings(
        url="https://hooks.example.com/", events=["job.submitted"], queues=[], types=[], enabled=True
    )
    assert await webhooks.replace("acme", hook, settings, USER)
    job_id = await stores.submitted()
    await at_rest(ledger_database.owner_url)
    await relay_all(webhooks)
    assert await deliveries(ledger_database) == [(str(hook), "job.submitted", str(job_id))]


async def test_deliveries_make_no_events_and_have_their_id(
    stores: Stores, webhooks: Webhooks, ledger_database: Database
) -> None:
    hook = await endpoint(webhooks)
    await stores.submitted()
    await at_rest(ledger_database.owner_url)
    await relay_all(webhooks)
    await at_rest(ledger_database.owner_url)
    assert await relay_all(webhooks) == 0
    (row,) = await rows(
        ledger_database.owner_url,
        "SELECT id, input_data -> 'event' ->> 'eventId' AS event FROM ferryman.jobs WHERE queue_name = $1",
        WEBHOOK_QUEUE,
    )
    assert row["id"] == delivery_id(hook, UUID(row["event"]))


async def test_a_tenant_s_own_job_cannot_be_in_the_system_s_queue(ledger_database: Database) -> None:
    with pytest.raises(Exception, match="system_queue"):
        await rows(
            ledger_database.owner_url,
            "INSERT INTO ferryman.jobs (id, tenant_id, user_id, type, queue_name)"
            " VALUES (gen_random_uuid(), 'acme', 1, 'webhook.delivery', 'system.webhooks')",
        )
