"""How jobs look on a terminal: a line in a table, and all of one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from ferryman.cli.durations import shown
from ferryman.cli.terminal import put, put_document, put_fields, put_table, status_text

HEADINGS: Final = ("STATUS", "JOB", "TYPE", "QUEUE", "ATT", "AGE", "NOTE")
FINAL: Final = frozenset({"completed", "dead_letter", "cancelled", "expired"})
_INSTANTS: Final = (
    ("created", "createdAt"),
    ("runs at", "runAt"),
    ("started", "startedAt"),
    ("ended", "completedAt"),
    ("expires", "expiresAt"),
)


def job_row(job: dict[str, Any]) -> tuple[object, ...]:
    """One line of a table of jobs."""
    tries = f"{job['attempt']}/{job['maxRetries'] + 1}"
    return job["status"], job["jobId"], job["type"], job["queue"], tries, shown(_age_ms(job)), note(job)


def show_job(output: str, job: dict[str, Any]) -> None:
    """All of a job: its document, or its fields and a table of its attempts."""
    if output == "json":
        put_document(job)
        return
    put_fields(
        [
            ("job", job["jobId"]),
            ("status", status_text(job["status"])),
            ("type", job["type"]),
            ("queue", f"{job['queue']}, priority {job['priority']}"),
            ("owner", f"user {job['userId']} of tenant {job['tenantId']}"),
            ("retries", f"{job['retryCount']} of {job['maxRetries']}"),
            ("next retry", job.get("nextRetryAt")),
            *((name, job.get(field)) for name, field in _INSTANTS),
            ("progress", progress_of(job)),
            ("tags", ", ".join(job.get("tags") or ())),
            ("metadata", _json(job.get("metadata"))),
            ("unique key", job.get("uniqueKey")),
            ("worker", job.get("workerId")),
            ("correlation", job.get("correlationId")),
            ("input", _json(job.get("input"))),
            ("output", _json(job.get("output"))),
            ("error", failure(job.get("error"))),
        ]
    )
    if job.get("attempts"):
        put("")
        put_table(("ATT", "OUTCOME", "STARTED", "WAITED", "RAN", "WORKER", "NOTE"), _attempt_rows(job))


def show_explanation(output: str, answer: dict[str, Any]) -> None:
    """Why a job is not running: its document, or a line for each reason."""
    if output == "json":
        put_document(answer)
        return
    start = answer.get("estimatedStart")
    put_fields(
        [
            ("job", answer["jobId"]),
            ("status", status_text(answer["status"])),
            ("may start", f"{start['earliest']} to {start['latest']}" if start else None),
        ]
    )
    if answer["reasons"]:
        put("")
        put_table(("REASON", "WHICH MEANS"), [(one["code"], one["message"]) for one in answer["reasons"]])


def _attempt_rows(job: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        (
            attempt.get("attempt"),
            attempt.get("outcome") or "running",
            attempt.get("startedAt"),
            shown(attempt.get("waitMs")),
            shown(attempt.get("runMs")),
            attempt.get("workerId"),
            failure(attempt.get("error")),
        )
        for attempt in job["attempts"]
    ]


def note(job: dict[str, Any]) -> str:
    """What is worth knowing of a job in its present status."""
    if job["status"] == "running":
        return progress_of(job)
    if job["status"] == "retrying":
        return f"{failure(job.get('error'))}, again at {job.get('nextRetryAt')}".lstrip(", ")
    if job["status"] == "scheduled":
        return f"at {job.get('runAt')}"
    return failure(job.get("error")) if job["status"] != "completed" else ""


def progress_of(job: dict[str, Any]) -> str:
    """Percent and note, as far as the handler told."""
    progress = job.get("progress") or {}
    percent = progress.get("percent")
    return f"{'' if percent is None else f'{percent:g} % '}{progress.get('note') or ''}".strip()


def failure(error: dict[str, Any] | None) -> str:
    """Class and message of an error; nothing for none."""
    return f"{error['class']} {error['message']}" if error else ""


def _json(value: object) -> str:
    return "" if value in (None, {}) else json.dumps(value, ensure_ascii=False)


def _age_ms(job: dict[str, Any]) -> float:
    created = datetime.fromisoformat(job["createdAt"])
    return max(0.0, (datetime.now(UTC) - created).total_seconds() * 1_000)


def job_path(job_id: str) -> str:
    """The job's address in the API."""
    return f"/api/jobs/{quote(job_id, safe='')}"
