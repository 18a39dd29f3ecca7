"""What the API takes and shows: bodies, queries, cursors, views, problems."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from ferryman import ports
from ferryman.api.bodies import BodyReader, QueryReader, SettingsReader
from ferryman.api.cursors import decode_cursor, encode_cursor
from ferryman.api.problems import CODES, Problem, problem_of
from ferryman.api.schemas import (
    BulkSubmission,
    JobsQuery,
    JobSubmission,
    LettersQuery,
    StatsParameters,
    order_of,
    orders_of,
)
from ferryman.api.views import job_view, time
from ferryman.core.queues import QueueSettings
from ferryman.core.status import JobStatus
from tests.support.api_shapes import AT, job

SUBMISSION = BodyReader(JobSubmission)
BULK = BodyReader(BulkSubmission, envelope=3)
SETTINGS = SettingsReader(QueueSettings)
NOW = datetime(2027, 1, 15, tzinfo=UTC)


def paths(body: object, reader: BodyReader = SUBMISSION) -> list[str]:
    """The fields that are named when this body is refused."""
    with pytest.raises(Problem) as refusal:
        reader.read(json.dumps(body).encode())
    assert refusal.value.status == 400
    return [error.path for error in refusal.value.errors]


def test_every_bad_field_is_named() -> None:
    body = {
        "type": "no spaces",
        "priority": 101,
        "maxRetries": "3",
        "tags": ["", "fine", 7],
        "metadata": {"a b": 1, "c": None, "d": {}},
        "runAt": "tomorrow",
        "bogus": 1,
    }
    wrong = [
        "bogus",
        "type",
        "priority",
        "maxRetries",
        "tags[0]",
        "tags[2]",
        "metadata.c",
        "metadata.d",
        "runAt",
    ]
    assert sorted(paths(body)) == sorted([*wrong, "metadata.a b"])


def test_in_bulk_the_number_is_named() -> None:
    body = {"jobs": [{"type": "a"}, {"type": "b", "priority": -1}, {"queue": "default"}]}
    assert paths(body, BULK) == ["jobs[1].priority", "jobs[2].type"]


def test_a_message_says_what_it_takes_and_what_came() -> None:
    with pytest.raises(Problem) as refusal:
        SUBMISSION.read(b'{"type":"chat","priority":101,"uniqueKey":"' + b"k" * 300 + b'"}')
    messages = {error.path: error.message for error in refusal.value.errors}
    assert messages["priority"] == "takes an integer from 0 to 100; got 101"
    assert messages["uniqueKey"].startswith('takes text of 1 to 200 characters; got "kkk')
    assert len(messages["uniqueKey"]) < 100


def test_at_most_fifty_errors_are_named() -> None:
    assert len(paths({"jobs": [{"type": "a", "bogus": 1}] * 100}, BULK)) == 50


def test_null_is_the_same_as_absent() -> None:
    fields = [field.encode_name for field in msgspec.structs.fields(JobSubmission) if field.name != "type"]
    body = {"type": "chat", **dict.fromkeys(fields)}
    order = order_of(SUBMISSION.read(json.dumps(body).encode()), now=NOW)
    assert order == order_of(SUBMISSION.read(b'{"type":"chat"}'), now=NOW)


def test_null_in_settings_is_the_same_as_absent() -> None:
    body = b'{"maxSize":null,"retry":{"jitter":null},"perTenant":null,"types":{"chat":{"timeoutMs":null}}}'
    assert SETTINGS.read(body) == SETTINGS.read(b'{"types":{"chat":{}}}')


def test_settings_name_their_bad_fields() -> None:
    body = {"maxSize": 0, "retry": {"maxRetries": 101, "x": 1}, "types": {"a b": {}}, "perTenant": []}
    assert sorted(paths(body, SETTINGS)) == [
        "maxSize",
        "perTenant",
        "retry.maxRetries",
        "retry.x",
        "types.a b",
    ]


def test_a_message_becomes_the_input() -> None:
    order = order_of(SUBMISSION.read(b'{"type":"chat","message":"h\\u00e9 \\"x\\""}'), now=NOW)
    assert json.loads(order.input) == {"message": 'hé "x"'}


def test_the_input_is_kept_byte_by_byte() -> None:
    order = order_of(SUBMISSION.read(b'{"input": {"a" : 1.50, "b":[ ] } ,"type":"chat"}'), now=NOW)
    assert order.input == b'{"a" : 1.50, "b":[ ] }'


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"input": []}, ["input"]),
        ({"input": "text"}, ["input"]),
        ({"input": {}, "message": "x"}, ["message"]),
        ({"delayMs": 1, "runAt": "2027-01-16T00:00:00Z"}, ["runAt"]),
        ({"ttlMs": 1, "expiresAt": "2027-01-16T00:00:00Z"}, ["expiresAt"]),
        ({"expiresAt": "2027-01-15T00:00:00Z"}, ["expiresAt"]),
        ({"runAt": "2037-01-20T00:00:00Z"}, ["runAt"]),
        ({"expiresAt": "2037-01-20T00:00:00Z"}, ["expiresAt"]),
        ({"metadata": {f"k{n}": "v" * 1_000 for n in range(9)}}, ["metadata"]),
        ({"input": 1, "ttlMs": 1, "expiresAt": "2027-01-15T00:00:00Z"}, ["input", "expiresAt", "expiresAt"]),
    ],
)
def test_fields_that_do_not_go_together(fields: dict[str, Any], wrong: list[str]) -> None:
    body = {"type": "chat", **fields}
    with pytest.raises(Problem) as refusal:
        order_of(SUBMISSION.read(json.dumps(body).encode()), now=NOW)
    assert [error.path for error in refusal.value.errors] == wrong
    with pytest.raises(Problem) as refusal:
        orders_of(BULK.read(json.dumps({"jobs": [{"type": "chat"}, body]}).encode()), now=NOW)
    assert [error.path for error in refusal.value.errors] == [f"jobs[1].{path}" for path in wrong]


def test_a_start_in_the_past_and_ten_years_ahead_are_taken() -> None:
    for at in ("1999-01-01T00:00:00Z", "2037-01-15T00:00:00Z", "2027-01-15T02:00:00+02:00"):
        order_of(SUBMISSION.read(json.dumps({"type": "chat", "runAt": at}).encode()), now=NOW)


def test_deep_input_is_counted_without_its_envelope() -> None:
    def nested(depth: int) -> Any:
        return {} if depth == 1 else {"a": nested(depth - 1)}

    SUBMISSION.read(json.dumps({"type": "chat", "input": nested(64)}).encode())
    BULK.read(json.dumps({"jobs": [{"type": "chat", "input": nested(64)}]}).encode())
    with pytest.raises(Problem):
        SUBMISSION.read(json.dumps({"type": "chat", "input": nested(65)}).encode())


@pytest.mark.parametrize(
    ("kind", "query", "wrong"),
    [
        (JobsQuery, [("bogus", "1")], ["bogus"]),
        (JobsQuery, [("limit", "0")], ["limit"]),
        (JobsQuery, [("limit", "201")], ["limit"]),
        (JobsQuery, [("limit", "five")], ["limit"]),
        (JobsQuery, [("limit", "5"), ("limit", "6")], ["limit"]),
        (JobsQuery, [("status", "pending"), ("status", "gone")], ["status"]),
        (JobsQuery, [("userId", "-1")], ["userId"]),
        (JobsQuery, [("createdAfter", "2027-01-01")], ["createdAfter"]),
        (JobsQuery, [("createdBefore", "2027-01-01T00:00:00")], ["createdBefore"]),
        (JobsQuery, [("tag", "")], ["tag"]),
        (JobsQuery, [("tag", "a\x00")], ["tag"]),
        (JobsQuery, [("queue", "No Queue")], ["queue"]),
        (JobsQuery, [("metadata", "x")], ["metadata"]),
        (JobsQuery, [("metadata.", "x")], ["metadata."]),
        (JobsQuery, [("metadata.a b", "x")], ["metadata.a b"]),
        (JobsQuery, [("metadata.a", "x"), ("metadata.a", "y")], ["metadata.a"]),
        (LettersQuery, [("status", "gone")], ["status"]),
        (LettersQuery, [("fingerprint", "XYZ")], ["fingerprint"]),
        (StatsParameters, [("from", "x"), ("to", "y")], ["from", "to"]),
    ],
)
def test_bad_parameters_are_named(kind: type[Any], query: list[tuple[str, str]], wrong: list[str]) -> None:
    with pytest.raises(Problem) as refusal:
        QueryReader(kind).read(MultiDict(query))
    assert [error.path for error in refusal.value.errors] == wrong


def test_parameters_that_may_be_repeated() -> None:
    query = QueryReader(JobsQuery).read(
        MultiDict([("status", "pending"), ("status", "running"), ("userId", "7"), ("metadata.a.b", "1")])
    )
    assert query.status == [JobStatus.PENDING, JobStatus.RUNNING]
    assert (query.user_id, query.metadata, query.limit) == ([7], {"a.b": "1"}, 50)


@given(st.uuids())
def test_a_cursor_comes_back(job_id: UUID) -> None:
    assert decode_cursor("jobs", encode_cursor("jobs", job_id)) == job_id


@pytest.mark.parametrize("spoil", ["", "x", "é" * 28, "A" * 28, "A" * 10_000, "=" * 28])
def test_a_broken_cursor(spoil: str) -> None:
    with pytest.raises(Problem) as refusal:
        decode_cursor("jobs", spoil)
    assert refusal.value.code == "invalid_cursor"


def test_another_list_s_cursor_and_a_changed_one_are_broken() -> None:
    cursor = encode_cursor("jobs", uuid4())
    changed = cursor[:5] + ("A" if cursor[5] != "A" else "B") + cursor[6:]
    for kind, text in (("letters", cursor), ("jobs", changed)):
        with pytest.raises(Problem):
            decode_cursor(kind, text)


def test_times_are_utc_with_milliseconds() -> None:
    assert time(AT) == "2027-01-15T08:30:00.123Z"
    assert time(AT.astimezone(timezone(timedelta(hours=5, minutes=30)))) == "2027-01-15T08:30:00.123Z"


def test_a_retrying_job_says_when_it_runs_again() -> None:
    assert job_view(job(status=JobStatus.RETRYING)).next_retry_at == time(AT)
    assert job_view(job()).next_retry_at is None


def test_lists_leave_long_documents_out() -> None:
    long = b'{"a":"' + b"x" * 5_000 + b'"}'
    listed = json.loads(msgspec.json.encode(job_view(job(input=long, output=long), is_listed=True)))
    assert (listed["input"], listed["output"], listed["omitted"]) == (None, None, ["input", "output"])
    whole = json.loads(msgspec.json.encode(job_view(job(input=long))))
    assert whole["input"] == json.loads(long)
    assert "omitted" not in whole


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ports.LedgerUnavailableError("x"), "ledger_unavailable"),
        (ports.OutcomeUnknownError([uuid4()]), "outcome_unknown"),
        (ports.RejectedDataError("x"), "invalid_request"),
        (ports.QueryTooExpensiveError("x"), "query_too_expensive"),
        (ports.UnknownQueueError("x"), "unknown_queue"),
        (ports.QueueNotEmptyError("x"), "queue_not_empty"),
        (ports.DigestUnknownError("x"), "digest_unknown"),
        (ports.QueueFullError("q", limit=1, retry_after_ms=1_500), "queue_full"),
        (RuntimeError("postgresql://user:secret@host/db"), "internal_error"),
    ],
)
def test_errors_have_their_answers(error: Exception, code: str) -> None:
    problem = problem_of(error)
    assert (problem.code, problem.status) == (code, CODES[code][0])
    assert b"secret" not in msgspec.json.encode(problem.document("c"))
    if problem.status in (429, 503):
        assert int(problem.headers["Retry-After"]) >= 1


def test_doubt_names_the_jobs() -> None:
    ids = [uuid4(), uuid4()]
    one = json.loads(msgspec.json.encode(problem_of(ports.OutcomeUnknownError(ids[:1])).document("c")))
    assert one["jobId"] == str(ids[0])
    many = json.loads(msgspec.json.encode(problem_of(ports.OutcomeUnknownError(ids)).document("c")))
    assert many["jobIds"] == [str(job_id) for job_id in ids]
