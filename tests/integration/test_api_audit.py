"""The audit of a tenant over REST."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.api import PLATFORM, SERVICE, Api, on_fresh_stores, token
from tests.support.ledgers import connected
from tests.support.servers import Database

ADMIN = token("admin", user=9)


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url) as api:
        yield api


async def entries(api: Api, query: str = "", **options: Any) -> list[dict[str, Any]]:
    """Every entry, by pages of three."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        reply = await api.call("GET", f"/api/audit?limit=3{query}{cursor}", **({"bearer": ADMIN} | options))
        assert reply.status == 200, reply.text
        assert 0 < len(reply.json["entries"]) <= 3 or not cursor
        found += reply.json["entries"]
        if reply.json["nextCursor"] is None:
            return found
        cursor = f"&cursor={reply.json['nextCursor']}"


async def test_every_entry_comes_once_newest_first(api: Api) -> None:
    mine = [await api.submitted() for _ in range(5)]
    bulk = await api.call("POST", "/api/jobs/bulk", {"jobs": [{"type": "chat"}] * 4})
    for job_id in mine[:3]:
        assert (await api.call("POST", f"/api/jobs/{job_id}/cancel", bearer=ADMIN)).status == 202
    found = await entries(api)
    assert [one["action"] for one in found] == ["cancelled"] * 3 + ["submitted"] * 9
    assert [one["jobId"] for one in found[:3]] == mine[2::-1]
    assert {one["jobId"] for one in found[3:7]} == {one["jobId"] for one in bulk.json["jobs"]}
    assert [one["jobId"] for one in found[7:]] == mine[::-1]
    assert len({one["auditId"] for one in found}) == 12
    assert found[0]["actor"] == {"kind": "admin", "id": "9"}
    assert (found[0]["override"], found[0]["fromStatus"], found[0]["toStatus"]) == (
        True,
        "pending",
        "cancelled",
    )


async def test_transactions_are_ordered_as_numbers(api: Api, ledger_database: Database) -> None:
    async with connected(ledger_database.owner_url) as connection:
        for xid in (99, 100, 9, 1_000):
            await connection.execute(
                "INSERT INTO ferryman.job_audit (tenant_id, actor_kind, actor_id, action, attempt, xid)"
                " VALUES ('acme', 'user', '1', 'submitted', $1::integer, $1::integer::text::xid8)",
                xid,
            )
    assert [one["attempt"] for one in await entries(api)] == [1_000, 100, 99, 9]


async def test_filters(api: Api) -> None:
    first = await api.submitted()
    second = await api.submitted(queue="background", bearer=token(user=2))
    await api.call("POST", f"/api/jobs/{first}/cancel", bearer=ADMIN)

    async def actions(query: str) -> list[tuple[str, str]]:
        return [(one["action"], one["jobId"]) for one in await entries(api, query)]

    assert await actions("&actor=9") == [("cancelled", first)]
    assert await actions("&actor=2") == [("submitted", second)]
    assert await actions("&action=submitted") == [("submitted", second), ("submitted", first)]
    assert await actions(f"&jobId={first}") == [("cancelled", first), ("submitted", first)]
    assert await actions(f"&jobId={first}&action=submitted") == [("submitted", first)]
    assert await actions("&queue=background") == [("submitted", second)]
    at = (await entries(api, f"&jobId={second}"))[0]["at"]
    later = (datetime.fromisoformat(at) + timedelta(milliseconds=1)).astimezone(UTC)
    until = later.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert await actions(f"&to={at}") == [("submitted", first)]
    assert await actions(f"&from={at}&to={until}") == [("submitted", second)]
    assert await actions(f"&from={until}") == [("cancelled", first)]


async def test_walls(api: Api) -> None:
    await api.submitted()
    foreign = await api.submitted(bearer=token(tenant="globex"))
    assert len(await entries(api)) == 1
    assert await entries(api, f"&jobId={foreign}") == []
    assert len(await entries(api, bearer=token("viewer"))) == 1
    (entry,) = await entries(api, bearer=SERVICE, headers={"X-Tenant-Id": "globex"})
    assert (entry["jobId"], entry["tenantId"]) == (foreign, "globex")
    for bearer, code in ((token("user"), "forbidden"), (PLATFORM, "forbidden"), (SERVICE, "tenant_required")):
        assert (await api.call("GET", "/api/audit", bearer=bearer)).code == code


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("jobId=nothing", "jobId"),
        ("action=DROP%20TABLE", "action"),
        ("actor=", "actor"),
        ("from=yesterday", "from"),
        ("limit=201", "limit"),
        ("tenant=globex", "tenant"),
    ],
)
async def test_bad_parameters(api: Api, query: str, path: str) -> None:
    reply = await api.call("GET", f"/api/audit?{query}", bearer=ADMIN)
    assert (reply.status, reply.paths) == (400, [path])


async def test_a_broken_cursor(api: Api) -> None:
    for _ in range(2):
        await api.submitted()
    cursor = (await api.call("GET", "/api/audit?limit=1", bearer=ADMIN)).json["nextCursor"]
    jobs = (await api.call("GET", "/api/jobs?limit=1", bearer=ADMIN)).json["nextCursor"]
    for broken in ("x", cursor[:-1], jobs, cursor.swapcase()):
        reply = await api.call("GET", f"/api/audit?cursor={broken}", bearer=ADMIN)
        assert (reply.status, reply.code) == (400, "invalid_cursor")
