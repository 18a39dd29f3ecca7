"""What Schemathesis is told of this API: calls that wait are made short, every second one is about what is
there, and refusals that no schema can foretell are named, by their code or by what they say of a field.

Loaded by Schemathesis itself, by the environment variable SCHEMATHESIS_HOOKS.
"""

from __future__ import annotations

import json
import os
import re
from itertools import count, cycle
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

SHORT_MS = 20
# Names of things that are there, by the name of the path's parameter.
_KNOWN = {name: cycle(ids) for name, ids in json.loads(os.environ["FERRYMAN_TEST_KNOWN_IDS"]).items()}
_TURN = count()
_WAITS = {"waitForJob": ("timeoutMs", 300_000), "getQueueStatus": ("wait", 60_000)}

# Refusals of requests that are right by the schema, and why the schema cannot say so.
_BY_CODE = {
    "invalid_cursor": "a cursor carries a checksum and the name of its list",
    "unknown_queue": "which queues there are changes",
    "idempotency_mismatch": "the key came with another body before",
    "too_many_at_once": "the burst is a setting of the queue",
    "not_a_stream": "the call takes a WebSocket or Accept: text/event-stream, which is not generated",
}
_BY_RULE = {
    r"give one of \w+ and \w+": "fields that stand for each other, of which one may be null",
    r"takes a time to come": "the clock",
    r"takes a time within ten years": "the clock",
    r"takes a time before `to`": "one time stands before another",
    r"takes (an https:// URL|a URL|an absolute URL|a public|printable ASCII)": "parts of URLs",
    r"takes at most 8192 bytes of JSON": "bytes of a whole object",
    r"; got -?[0-9]+(\.0|e\+?[0-9]+)$": "to a schema 5.0 is an integer; the description says: no fraction",
    r"takes (numbers within|integers of 64 bits|at most 64 levels)": "bounds of free JSON",
    r"takes no text with (the character U\+0000|half a surrogate pair)": "PostgreSQL stores no such text",
}


@schemathesis.hook
def before_call(_: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Let no call wait long, and every second one be about something that is there."""
    query = case.query or {}
    name, longest = _WAITS.get(case.operation.definition.raw.get("operationId"), ("", 0))
    asked = str(query.get(name, longest))
    if name and asked.isdigit() and SHORT_MS < int(asked) <= longest:
        case.query = query | {name: SHORT_MS}
    if case.meta is not None and case.meta.generation.mode.is_positive and next(_TURN) % 2:
        query.pop("cursor", None)  # no generated one is whole
        _send_to_the_known(case)


def _send_to_the_known(case: Any) -> None:
    for name in case.path_parameters or {}:
        if name in _KNOWN:
            case.path_parameters[name] = next(_KNOWN[name])
    body = case.body if isinstance(case.body, dict) else {}
    for job in body.get("jobs", [body]):
        if "queue" in job:
            job["queue"] = "default"
        for name in ("message", "runAt", "expiresAt"):
            job.pop(name, None)
    if "url" in body:
        body["url"] = "https://hooks.example.com/"


@schemathesis.hook
def filter_failure(_: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Whether a failure counts."""
    return not isinstance(failure, RejectedPositiveData) or not _is_beyond_schemas(response)


def _is_beyond_schemas(response: Any) -> bool:
    problem = response.json()
    if problem["code"] in _BY_CODE:
        return True
    messages = [error["message"] for error in problem.get("errors", ())]
    return bool(messages) and all(any(re.search(rule, text) for rule in _BY_RULE) for text in messages)
