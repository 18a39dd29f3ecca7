"""Who may do what: tokens, roles and tenants on every route."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ferryman.api.routes import ROUTES
from ferryman.auth.policy import Call
from tests.support.api import SECRET, SERVICE, Api, on_fresh_stores, token
from tests.support.servers import Database

NOBODY = "00000000-0000-7000-8000-000000000000"
# What each route answers to each role for a job or letter that is not there, an unknown queue, or a body
# that changes nothing. A route without a row fails the test.
#                        none user view admin plat serv serv+tenant
EXPECTED: dict[str, tuple[int, ...]] = {
    "submitJob": (403, 422, 403, 422, 403, 400, 422),
    "submitJobs": (403, 422, 403, 422, 403, 400, 422),
    "listJobs": (403, 200, 200, 200, 403, 400, 200),
    "getJob": (403, 404, 404, 404, 403, 400, 404),
    "getJobHistory": (403, 404, 404, 404, 403, 400, 404),
    "waitForJob": (403, 404, 404, 404, 403, 400, 404),
    "cancelJob": (403, 404, 403, 404, 403, 400, 404),
    "retryJob": (403, 404, 403, 404, 403, 400, 404),
    "getStats": (403, 200, 200, 200, 403, 400, 200),
    "getQueueStatus": (403, 200, 200, 200, 200, 200, 200),
    "applyRetention": (403, 403, 403, 200, 403, 200, 200),
    "reconcileDeadLetters": (403, 403, 403, 200, 403, 200, 200),
    "listDeadLetters": (403, 200, 200, 200, 403, 400, 200),
    "getDeadLetter": (403, 404, 404, 404, 403, 400, 404),
    "requeueDeadLetter": (403, 404, 403, 404, 403, 400, 404),
    "discardDeadLetter": (403, 403, 403, 404, 403, 400, 404),
    "listQueues": (403, 200, 200, 200, 200, 200, 200),
    "getQueue": (403, 404, 404, 404, 404, 404, 404),
    "putQueue": (403, 403, 403, 403, 201, 200, 200),
    "deleteQueue": (403, 403, 403, 403, 204, 404, 404),
    "pauseQueue": (403, 403, 403, 403, 404, 404, 404),
    "resumeQueue": (403, 403, 403, 403, 404, 404, 404),
    "explainJob": (403, 404, 404, 404, 403, 400, 404),
    "listWorkers": (403, 403, 200, 200, 200, 200, 200),
    "drainWorker": (403, 403, 403, 403, 404, 404, 404),
    "undrainWorker": (403, 403, 403, 403, 404, 404, 404),
    "dismissWorker": (403, 403, 403, 403, 403, 404, 404),
    "getMe": (403, 200, 200, 200, 200, 200, 200),
    "listAudit": (403, 403, 200, 200, 403, 400, 200),
    "streamEvents": (403, 406, 406, 406, 403, 400, 406),
    "listWebhooks": (403, 403, 403, 200, 403, 403, 403),
    "createWebhook": (403, 403, 403, 201, 403, 403, 403),
    "getWebhook": (403, 403, 403, 404, 403, 403, 403),
    "replaceWebhook": (403, 403, 403, 404, 403, 403, 403),
    "deleteWebhook": (403, 403, 403, 404, 403, 403, 403),
    "rotateWebhookSecret": (403, 403, 403, 404, 403, 403, 403),
    "listWebhookDeliveries": (403, 403, 403, 404, 403, 403, 403),
}
BODIES: dict[str, Any] = {
    "submitJob": {"type": "chat", "queue": "nowhere"},
    "submitJobs": {"jobs": [{"type": "chat", "queue": "nowhere"}]},
    "applyRetention": {"dryRun": True},
    "putQueue": {},
    "createWebhook": {"url": "https://hooks.example.com/ferryman"},
    "replaceWebhook": {"url": "https://hooks.example.com/ferryman"},
}
BEARERS: list[tuple[str, dict[str, str]]] = [
    (token("nothing"), {}),
    (token("user"), {}),
    (token("viewer"), {}),
    (token("admin"), {}),
    (token("platform"), {}),
    (SERVICE, {}),
    (SERVICE, {"X-Tenant-Id": "acme"}),
]


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url) as api:
        yield api


def path_of(path: str, name: str = "nowhere") -> str:
    return path.format(jobId=NOBODY, deadLetterId=NOBODY, webhookId=NOBODY, workerId="nobody", name=name)


async def test_every_route_for_every_role(api: Api) -> None:
    assert {route.name for route in ROUTES} == set(EXPECTED)
    for route in ROUTES:
        name = "made" if route.name in ("putQueue", "deleteQueue") else "nowhere"
        got = []
        for bearer, headers in BEARERS:
            body = BODIES.get(route.name)
            reply = await api.call(
                route.method, path_of(route.path, name), body, bearer=bearer, headers=headers
            )
            got.append(reply.status)
        assert tuple(got) == EXPECTED[route.name], route.name


async def test_every_route_without_a_valid_token_gives_one_and_the_same_answer(api: Api) -> None:
    forged = [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {token()}",
        token(),
        f"Bearer {token(secret=SECRET + 'x')}",
        f"Bearer {token(ttl_s=-60)}",
        f"Bearer {token()} {token()}",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ]
    for route in ROUTES:
        answers = set()
        for header in forged:
            headers = {"Authorization": header, "X-Correlation-Id": "same"}
            reply = await api.call(route.method, path_of(route.path), headers=headers)
            assert (reply.status, reply.code) == (401, "unauthorized"), (route.name, header)
            assert reply.headers["WWW-Authenticate"] == 'Bearer realm="ferryman"'
            answers.add(reply.text)
        assert len(answers) == 1


async def test_a_token_in_the_url_is_refused_whatever_it_is(api: Api) -> None:
    for name in ("token", "access_token", "TOKEN", "jwt"):
        reply = await api.call("GET", f"/api/jobs?{name}={token()}")
        assert (reply.status, reply.code) == (400, "token_in_url")
        assert token() not in reply.text


async def test_x_tenant_id_is_for_services_alone(api: Api) -> None:
    for roles in (["user"], ["admin"], ["platform"], ["viewer"], ["user", "admin", "platform"]):
        reply = await api.call("GET", "/api/jobs", bearer=token(*roles), headers={"X-Tenant-Id": "acme"})
        assert (reply.status, reply.code) == (403, "forbidden")
    for tenant in ("", " ", "t" * 51):
        reply = await api.call("GET", "/api/jobs", bearer=SERVICE, headers={"X-Tenant-Id": tenant})
        assert (reply.status, reply.paths) == (400, ["X-Tenant-Id"])


async def test_a_service_submits_for_a_tenant(api: Api) -> None:
    headers = {"X-Tenant-Id": "globex"}
    reply = await api.call("POST", "/api/jobs", {"type": "chat"}, bearer=SERVICE, headers=headers)
    assert (reply.status, reply.json["tenantId"], reply.json["userId"]) == (201, "globex", 0)
    row = (
        await api.call("GET", f"{reply.headers['Location']}/history", bearer=SERVICE, headers=headers)
    ).json
    assert row["history"][0]["actor"]["kind"] == "service"


FOREIGNERS = {
    "another user": token("user", user=99),
    "a user of another tenant": token("user", tenant="globex"),
    "an admin of another tenant": token("admin", tenant="globex"),
    "a viewer of another tenant": token("viewer", tenant="globex"),
    "the same tenant in capitals": token("admin", tenant="ACME"),
}


async def test_another_s_job_is_as_good_as_none(api: Api) -> None:
    job_id = await api.submitted(
        input={"secret": "canary-4711"}, metadata={"m": "canary-4711"}, uniqueKey="canary-4711"
    )
    for who, bearer in FOREIGNERS.items():
        for method, path in [
            ("GET", "/api/jobs/{}"),
            ("GET", "/api/jobs/{}/history"),
            ("GET", "/api/jobs/{}/wait?timeoutMs=1"),
            ("POST", "/api/jobs/{}/cancel"),
            ("POST", "/api/jobs/{}/retry"),
        ]:
            theirs = await api.call(
                method, path.format(job_id), bearer=bearer, headers={"X-Correlation-Id": "c"}
            )
            nobody = await api.call(
                method, path.format(NOBODY), bearer=bearer, headers={"X-Correlation-Id": "c"}
            )
            assert (theirs.status, theirs.text) == (nobody.status, nobody.text), (who, path)
            assert theirs.status in (403, 404)
        for path in (
            "/api/jobs",
            "/api/jobs?metadata.m=canary-4711",
            "/api/jobs?userId=1",
            "/api/dead-letters",
        ):
            assert "canary" not in (await api.call("GET", path, bearer=bearer)).text
    assert (await api.call("GET", f"/api/jobs/{job_id}")).json["status"] == "pending"


async def test_an_admin_and_a_viewer_read_all_of_their_tenant(api: Api) -> None:
    job_id = await api.submitted()
    for role in ("admin", "viewer"):
        assert (await api.call("GET", f"/api/jobs/{job_id}", bearer=token(role, user=50))).status == 200


async def test_a_tenant_sees_its_own_share_of_the_figures(api: Api) -> None:
    await api.submitted()
    await api.submitted(bearer=token(tenant="globex"))
    path = "/api/jobs/queue/status?queue=default"
    for bearer, pending in (
        (token(), 1),
        (token("admin"), 1),
        (token(tenant="other"), 0),
        (SERVICE, 2),
        (token("platform"), 2),
    ):
        status = (await api.call("GET", path, bearer=bearer)).json
        assert (status["pending"], status["totals"]["arrivals"]) == (pending, pending)


async def test_the_open_pages_need_no_token(api: Api) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"):
        assert (await api.call("GET", path, headers={"Authorization": ""})).status == 200


async def test_no_token_and_no_payload_in_logs(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    bearer = token("admin", user=12_345)
    await api.submit(bearer=bearer, message="canary-4711")
    await api.submit(bearer=bearer, message="canary-4711", queue="nowhere")
    await api.submit(bearer=bearer + "x", message="canary-4711")
    await api.call("GET", f"/api/jobs?token={bearer}", bearer=bearer)
    ours = [record for record in caplog.records if record.name.startswith("ferryman")]
    text = "\n".join(str(vars(record)) for record in ours)
    assert "request.done" in text
    assert bearer not in text
    assert "canary" not in text


def test_every_call_of_the_policy_has_a_route() -> None:
    assert {route.call for route in ROUTES} == set(Call)
