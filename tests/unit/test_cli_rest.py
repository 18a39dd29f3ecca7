"""Commands that go through REST: what they ask the API for, and what they make of its answers."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest

from ferryman.cli.main import main

SECRET = "a-secret-for-tests-that-is-long-enough"
JOB_ID = "0190a1b2-0000-7000-8000-000000000001"
JOB = {
    "jobId": JOB_ID, "tenantId": "acme", "userId": 1, "type": "chat", "queue": "default", "priority": 0,
    "status": "completed", "attempt": 2, "retryCount": 1, "maxRetries": 5, "error": None,
    "createdAt": "2026-01-31T08:00:00.123Z", "input": {"message": "hi"}, "output": {"reply": "HI"},
    "attempts": [
        {"attempt": 1, "outcome": "retried", "waitMs": 2, "runMs": 30,
         "error": {"class": "TRANSIENT", "message": "upstream 503"}},
        {"attempt": 2, "outcome": "completed", "waitMs": 1, "runMs": 38, "error": None},
    ],
}  # fmt: skip
LETTER = {
    "deadLetterId": "d1", "originalJobId": JOB_ID, "tenantId": "acme", "userId": 1, "type": "poison",
    "queue": "default", "status": "dead", "reason": "failed", "failedAt": "2026-01-31T08:00:00.123Z",
    "error": {"class": "PERMANENT", "message": "no such template", "details": {}}, "fingerprint": "ab12",
    "attempts": [], "retryCount": 0, "maxRetries": 3, "redrives": 0, "input": {}, "tags": [], "metadata": {},
}  # fmt: skip


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any

    @property
    def claims(self) -> dict[str, Any]:
        token = self.headers["authorization"].removeprefix("Bearer ")
        return dict(jwt.decode(token, SECRET, algorithms=["HS256"]))

    @property
    def roles(self) -> list[str]:
        return list(self.claims["roles"])


@dataclass
class FakeApi:
    """Answers each request with the next planned (status, document), and keeps what it was asked."""

    url: str = ""
    plan: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    fake = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.asked.append(Asked(self.command, self.path, headers, body))
            status, document = fake.plan.pop(0)
            content = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in ("FERRYMAN_TOKEN", "FERRYMAN_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FERRYMAN_API_URL", fake.url)
    monkeypatch.setenv("FERRYMAN_JWT_SECRET", SECRET)
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def test_submit_prints_the_id_and_sends_only_what_was_given(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.plan = [(201, {"jobId": JOB_ID, "status": "pending", "queue": "default"})]
    assert (
        main(["jobs", "submit", "chat", "--message", "hi", "--delay", "2m", "--tag", "a", "--tag", "b"]) == 0
    )
    out = capsys.readouterr()
    assert out.out == f"{JOB_ID}\n"
    assert "○ pending" in out.err
    assert api.asked[0].body == {"type": "chat", "message": "hi", "delayMs": 120_000, "tags": ["a", "b"]}
    assert api.asked[0].roles == ["user", "admin", "platform"]


def test_submit_reads_its_input_from_a_file(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('{"n": 12345678901234567890}')
    api.plan = [(201, {"jobId": JOB_ID, "status": "pending"})]
    assert main(["jobs", "submit", "count", "--input-file", str(tmp_path / "input.json")]) == 0
    assert api.asked[0].body == {"type": "count", "input": {"n": 12345678901234567890}}


def test_submit_refuses_what_is_no_json(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "submit", "count", "--input", "{n: 1}"]) == 2
    assert "ferryman: --input is no JSON" in capsys.readouterr().err
    assert api.asked == []


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("dead_letter", 1), ("cancelled", 1)])
def test_submit_waits_and_tells_by_its_exit_code(
    api: FakeApi, status: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = JOB | {"status": status}
    api.plan = [
        (201, {"jobId": JOB_ID, "status": "pending"}),
        (200, JOB | {"status": "running"}),
        (200, ended),
    ]
    assert main(["jobs", "submit", "chat", "--wait", "--output", "json"]) == code
    assert json.loads(capsys.readouterr().out) == ended


def test_json_output_is_the_answer_of_the_api(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.plan = [(200, JOB)]
    assert main(["--output", "json", "jobs", "get", JOB_ID]) == 0
    assert json.loads(capsys.readouterr().out) == JOB


def test_get_shows_fields_and_attempts(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.plan = [(200, JOB)]
    assert main(["jobs", "get", JOB_ID]) == 0
    out = capsys.readouterr().out
    assert "retries  1 of 5" in out
    assert "TRANSIENT upstream 503" in out


def test_explain_names_each_reason_and_the_time(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = [{"code": "paused", "message": "The queue default is paused.", "details": {}}]
    start = {"earliest": "2026-01-31T08:00:00.000Z", "latest": "2026-01-31T08:01:00.000Z"}
    answer = {"jobId": JOB_ID, "status": "pending", "reasons": reasons, "estimatedStart": start}
    api.plan = [(200, answer), (200, answer | {"reasons": [], "estimatedStart": None})]
    assert main(["jobs", "explain", JOB_ID]) == 0
    assert api.asked[0].path == f"/api/jobs/{JOB_ID}/explain"
    out = capsys.readouterr().out
    assert "paused  The queue default is paused." in out
    assert "2026-01-31T08:00:00.000Z to 2026-01-31T08:01:00.000Z" in out
    assert main(["jobs", "explain", JOB_ID]) == 0
    assert "REASON" not in capsys.readouterr().out


def test_list_goes_over_pages_up_to_its_limit(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.plan = [
        (200, {"jobs": [JOB] * 200, "nextCursor": "c2"}),
        (200, {"jobs": [JOB] * 50, "nextCursor": "c3"}),
    ]
    assert main(["jobs", "list", "--limit", "250", "--status", "completed", "--metadata", "k=v"]) == 0
    assert [asked.path for asked in api.asked] == [
        "/api/jobs?status=completed&metadata.k=v&limit=200",
        "/api/jobs?status=completed&metadata.k=v&limit=50&cursor=c2",
    ]
    out = capsys.readouterr()
    assert len(out.out.splitlines()) == 251
    assert "--cursor c3" in out.err


def test_cancel_and_retry_go_over_several_jobs(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.plan = [(202, {"jobId": "a", "status": "cancelled"}), (202, {"jobId": "b", "status": "running"})]
    assert main(["jobs", "cancel", "a", "b", "--reason", "asked by phone"]) == 0
    assert [asked.path for asked in api.asked] == ["/api/jobs/a/cancel", "/api/jobs/b/cancel"]
    assert api.asked[0].headers["x-override-reason"] == "asked by phone"
    assert capsys.readouterr().out == "a  ⊘ cancelled\nb  ▶ running\n"


def test_refusals_end_with_1(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.plan = [(404, {"title": "Not found", "detail": "there is no such job", "code": "not_found"})]
    assert main(["jobs", "get", "x"]) == 1
    assert capsys.readouterr().err.startswith("ferryman: there is no such job\n  code not_found")


def test_unreachable_service_ends_with_3(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FERRYMAN_API_URL", "http://127.0.0.1:1")
    assert main(["jobs", "get", "x"]) == 3
    assert "http://127.0.0.1:1 cannot be reached" in capsys.readouterr().err


def test_wrong_setting_ends_with_2(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FERRYMAN_API_URL", "127.0.0.1:3101")
    assert main(["jobs", "get", "x"]) == 2
    assert "FERRYMAN_API_URL is wrong" in capsys.readouterr().err


def test_watch_follows_one_job_to_its_end(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.plan = [(200, JOB | {"status": "running", "attempt": 1}), (200, JOB)]
    assert main(["jobs", "watch", JOB_ID]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert "▶ running  chat  attempt 1" in first
    assert "✓ completed  chat  attempt 2" in last


def test_queues_set_changes_some_settings_and_keeps_the_others(api: FakeApi) -> None:
    present = {"queue": "emails", "maxSize": 10, "paused": True, "retry": {"maxRetries": 3, "jitter": True}}
    api.plan = [(200, present), (200, {})]
    words = ["maxSize=20", "retry.maxRetries=5", "types.invoice.timeoutMs=2m", "deadLetterQueue=e_dlq"]
    assert main(["queues", "set", "emails", *words]) == 0
    assert api.asked[1].method == "PUT"
    assert api.asked[1].body == {
        "maxSize": 20,
        "retry": {"maxRetries": 5, "jitter": True},
        "types": {"invoice": {"timeoutMs": 120_000}},
        "deadLetterQueue": "e_dlq",
    }


def test_queues_set_makes_a_queue(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.plan = [(404, {"code": "not_found"}), (201, {})]
    assert main(["queues", "set", "emails", "paused=true"]) == 0
    assert api.asked[1].body == {"paused": True}
    assert capsys.readouterr().out == "emails  created\n"


@pytest.mark.parametrize(
    ("words", "method", "path", "said"),
    [
        (["pause", "emails"], "POST", "/api/queues/emails/pause", "emails  paused\n"),
        (["resume", "emails"], "POST", "/api/queues/emails/resume", "emails  open\n"),
        (["delete", "emails"], "DELETE", "/api/queues/emails", "emails  deleted\n"),
    ],
)
def test_queues_change(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: list[str], method: str, path: str, said: str
) -> None:
    api.plan = [(200, {})]
    assert main(["queues", *words]) == 0
    assert (api.asked[0].method, api.asked[0].path) == (method, path)
    assert capsys.readouterr().out == said


def test_dead_letters_are_listed_requeued_and_discarded(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.plan = [(200, {"deadLetters": [LETTER], "nextCursor": None}), (202, {}), (200, {})]
    assert main(["dead-letters", "list", "--error-class", "PERMANENT"]) == 0
    assert main(["dead-letters", "requeue", "d1"]) == 0
    assert main(["dead-letters", "discard", "d1"]) == 0
    assert [(asked.method, asked.path) for asked in api.asked] == [
        ("GET", "/api/dead-letters?errorClass=PERMANENT&limit=50"),
        ("POST", "/api/dead-letters/d1/requeue"),
        ("DELETE", "/api/dead-letters/d1"),
    ]
    assert "no such template" in capsys.readouterr().out


def test_retention_goes_as_the_service(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"completed": 3, "cancelled": 0, "expired": 0, "deadLetters": 1, "audit": 9}
    api.plan = [(200, {"dryRun": True, **counts})]
    assert main(["retention", "--queue", "emails", "--dry-run"]) == 0
    assert api.asked[0].body == {"queue": "emails", "dryRun": True}
    assert api.asked[0].roles == ["service"]
    assert "tenant_id" not in api.asked[0].claims
    assert "x-tenant-id" not in api.asked[0].headers
    assert "completed    3" in capsys.readouterr().out


def test_given_token_wins_and_tenant_is_named(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRYMAN_TOKEN", "a.b.c")
    api.plan = [(200, {"requeued": 1, "skipped": 0, "remaining": 0})]
    assert main(["reconcile-dead-letter", "--tenant", "globex", "--digest", "abc"]) == 0
    assert api.asked[0].headers["authorization"] == "Bearer a.b.c"
    assert api.asked[0].headers["x-tenant-id"] == "globex"
    assert api.asked[0].body == {"dryRun": False, "digest": "abc"}


def test_dry_run_prints_the_command_that_moves_what_it_shows(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.plan = [(200, {"matched": 1, "sample": [LETTER], "digest": "d1g3st"})]
    words = ["--queue", "default", "--older-than", "10m", "--error-class", "SYSTEM", "--no-reset-retries"]
    assert main(["reconcile-dead-letter", "--dry-run", *words]) == 0
    out = capsys.readouterr()
    assert "no such template" in out.out
    assert "digest   d1g3st" in out.out
    assert (
        "→ ferryman reconcile-dead-letter --digest d1g3st --queue default --error-class SYSTEM "
        "--older-than 600000ms --no-reset-retries" in out.err
    )


def test_token_is_for_the_api_of_this_secret(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "--tenant", "globex", "--user", "7", "--role", "admin", "--ttl", "60"]) == 0
    claims = jwt.decode(capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"])
    assert (claims["tenant_id"], claims["user_id"], claims["roles"]) == ("globex", 7, ["admin"])
    assert claims["exp"] - claims["iat"] == 60


def test_workers_are_listed_and_drain(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    worker = {
        "workerId": "w 1", "pod": "pod-1", "queues": ["default", "emails"], "types": ["chat"], "slots": 4,
        "busy": 1, "state": "running", "drainRequested": True, "startedAt": "2026-01-31T08:00:00.123Z",
        "lastHeartbeatAt": "2026-01-31T08:00:02.123Z",
    }  # fmt: skip
    api.plan = [(200, {"workers": [worker]}), (202, worker), (202, worker | {"drainRequested": False})]
    assert main(["workers", "list"]) == 0
    assert main(["workers", "drain", "w 1"]) == 0
    assert main(["workers", "undrain", "w 1"]) == 0
    listed, *said = capsys.readouterr().out.splitlines()[1:]
    assert "asked to drain" in listed
    assert "default, emails" in listed
    assert said == ["w 1  drains", "w 1  claims jobs again"]
    assert [(one.method, one.path) for one in api.asked[1:]] == [
        ("POST", "/api/workers/w%201/drain"),
        ("DELETE", "/api/workers/w%201/drain"),
    ]


def test_webhooks_are_listed_made_and_removed(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    webhook = {
        "webhookId": "h1", "url": "https://hooks.example.com/", "events": ["job.completed"], "queues": [],
        "types": [], "enabled": False, "disabledReason": "failing", "failures": 20,
    }  # fmt: skip
    delivery = {
        "event": "job.completed", "jobId": JOB_ID, "status": "retrying", "attempts": 2, "responseCode": 503,
        "at": "2026-01-31T08:00:00.123Z", "nextAttemptAt": "2026-01-31T08:00:10.123Z", "error": "503",
    }  # fmt: skip
    signed = webhook | {"secret": "whsec_x"}
    page = {"deliveries": [delivery], "nextCursor": "c2"}
    api.plan = [(200, {"webhooks": [webhook]}), (201, signed), (200, signed), (200, page), (204, None)]
    assert main(["webhooks", "list"]) == 0
    assert main(["webhooks", "add", "https://hooks.example.com/", "--event", "job.completed"]) == 0
    assert main(["webhooks", "rotate", "h1"]) == 0
    assert main(["webhooks", "deliveries", "h1", "--limit", "1"]) == 0
    assert main(["webhooks", "remove", "h1"]) == 0
    out = capsys.readouterr()
    lines = out.out.splitlines()
    assert "failing" in lines[1]
    assert "every one" in lines[1]
    assert lines[2:4] == ["h1  whsec_x"] * 2
    assert "503" in lines[5]
    assert lines[6] == "h1  removed"
    assert "→ ferryman webhooks deliveries h1 --cursor c2" in out.err
    assert [(one.method, one.path) for one in api.asked] == [
        ("GET", "/api/webhooks"),
        ("POST", "/api/webhooks"),
        ("POST", "/api/webhooks/h1/rotate-secret"),
        ("GET", "/api/webhooks/h1/deliveries?limit=1"),
        ("DELETE", "/api/webhooks/h1"),
    ]
    body = {"url": "https://hooks.example.com/", "events": ["job.completed"], "queues": [], "types": []}
    assert api.asked[1].body == body
