"""`ferryman.Client`: jobs from another program, over REST."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import msgspec

from ferryman.client.answers import Explanation, Job, JobPage, Submitted
from ferryman.client.events import Event, follow
from ferryman.client.failures import ConflictError, WaitTimeoutError
from ferryman.client.transport import Params, Token, Transport
from ferryman.core.status import JobStatus

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
DEFAULT_TRIES: Final = 4
_WAIT_SLICE_MS: Final = 20_000
_TWIN_PAUSE_SECONDS: Final = 0.2


class Client:
    """A client of one API, for one token (or a function that gives the present one).

    ```python
    async with Client("http://127.0.0.1:3101", token) as client:
        job = await client.wait((await client.submit("chat", {"message": "hello"})).job_id)
    ```
    `timeout` is in seconds, for one try; `tries` bounds the repetitions of what is safe to repeat: reads,
    what certainly was not accepted, submissions with an idempotency key. `headers` go with every request.
    Errors: `ferryman.client`.
    """

    def __init__(
        self,
        url: str,
        token: Token | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        tries: int = DEFAULT_TRIES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._transport = Transport(url, token, timeout=timeout, tries=tries, headers=headers or {})
        self._timeout = timeout
        self._tries = tries
        self.url = url.rstrip("/")

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Any call of the API: its JSON answer, or an error. For what has no method of its own here."""
        return await self._transport.call(
            method, path, body=body, params=params, headers=headers, timeout=timeout
        )

    async def submit(
        self,
        type: str,
        input: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
        **options: Any,
    ) -> Submitted:
        """Submit one job; it is stored when this returns.

        `options` are fields of the submission in snake case: `queue`, `priority`, `delay_ms`, `run_at` (a
        datetime), `tags`, `metadata`, `unique_key` and so on. Raises QueueFullError, InvalidRequestError.
        """
        answer = await self._submit(
            "/api/jobs", _submission(type, input, options), idempotency_key, correlation_id
        )
        return msgspec.convert(answer, Submitted)

    async def submit_many(
        self,
        jobs: Sequence[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
    ) -> list[Submitted]:
        """Submit 1 to 1,000 jobs, all or none; each is a mapping of `type`, `input` and the options of
        `submit`. Answers in their order.
        """
        bodies = [_submission(**_split(job)) for job in jobs]
        answer = await self._submit("/api/jobs/bulk", {"jobs": bodies}, idempotency_key, correlation_id)
        return msgspec.convert(answer["jobs"], list[Submitted])

    async def get(self, job_id: str) -> Job:
        """The job as it is now. Raises NotFoundError."""
        return msgspec.convert(await self.call("GET", _job_path(job_id)), Job)

    async def explain(self, job_id: str) -> Explanation:
        """Why the job is not running. Raises NotFoundError."""
        return msgspec.convert(await self.call("GET", f"{_job_path(job_id)}/explain"), Explanation)

    async def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """The job once it has ended; `timeout` in seconds, None waits as long as it takes.

        Raises WaitTimeoutError; the job goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left_ms = _WAIT_SLICE_MS if deadline is None else int((deadline - time.monotonic()) * 1_000)
            slice_ms = max(1, min(_WAIT_SLICE_MS, left_ms))
            job = msgspec.convert(
                await self.call(
                    "GET",
                    f"{_job_path(job_id)}/wait",
                    params={"timeoutMs": slice_ms},
                    timeout=slice_ms / 1_000 + self._timeout,
                ),
                Job,
            )
            if job.has_ended:
                return job
            if left_ms <= _WAIT_SLICE_MS and deadline is not None:
                raise WaitTimeoutError(f"job {job_id} is {job.status} after {timeout:g} s")

    async def list(
        self,
        *,
        status: Sequence[JobStatus | str] = (),
        type: Sequence[str] = (),
        queue: Sequence[str] = (),
        tag: Sequence[str] = (),
        user_id: int | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Jobs that match, newest first: alternatives inside a list, all lists together."""
        params: dict[str, str | int | Sequence[str | int] | None] = {
            "status": [str(one) for one in status],
            "type": list(type),
            "queue": list(queue),
            "tag": list(tag),
            "userId": user_id,
            "createdAfter": None if created_after is None else created_after.isoformat(),
            "createdBefore": None if created_before is None else created_before.isoformat(),
            "limit": limit,
            "cursor": cursor,
        }
        params.update({f"metadata.{key}": value for key, value in (metadata or {}).items()})
        return msgspec.convert(await self.call("GET", "/api/jobs", params=params), JobPage)

    def events(
        self,
        *,
        status: Sequence[JobStatus | str] = (),
        type: Sequence[str] = (),
        queue: Sequence[str] = (),
        tag: Sequence[str] = (),
        user_id: int | None = None,
        job_id: Sequence[str] = (),
        after: str | None = None,
        coalesce: bool = False,
    ) -> AsyncGenerator[Event, None]:
        """What happens from now on, or behind the event `after`, for ever: a connection that is cut is made
        again and goes on behind the last event. `coalesce`: leave frames out above 100 a second.

        ```python
        async for event in client.events(queue=["emails"]):
            print(event.kind, event.data)
        ```
        """
        params: dict[str, str | int | Sequence[str | int] | None] = {
            "status": [str(one) for one in status],
            "type": [*type],
            "queue": [*queue],
            "tag": [*tag],
            "userId": user_id,
            "jobId": [*job_id],
            "coalesce": "true" if coalesce else "false",
        }
        return follow(self._transport, params, after)

    async def cancel(self, job_id: str) -> None:
        """Ask for the job's end: at once while it waits, within two heartbeats when it runs.

        Raises ConflictError (`already_final`) when it has ended.
        """
        await self.call("POST", f"{_job_path(job_id)}/cancel")

    async def retry(self, job_id: str) -> None:
        """Run a retrying job now, or requeue a dead-lettered one. Raises ConflictError (`not_retryable`)."""
        await self.call("POST", f"{_job_path(job_id)}/retry")

    async def _submit(
        self, path: str, body: object, idempotency_key: str | None, correlation_id: str | None
    ) -> Any:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        if correlation_id:
            headers["X-Correlation-Id"] = correlation_id
        for number in range(self._tries):
            try:
                return await self.call("POST", path, body=body, headers=headers)
            except ConflictError:
                # Our own earlier try under this key, whose answer was lost, is still being carried out.
                if not idempotency_key or number == self._tries - 1:
                    raise
                await asyncio.sleep(_TWIN_PAUSE_SECONDS)
        raise AssertionError("unreachable: the last try returns or raises")


def _job_path(job_id: str) -> str:
    return f"/api/jobs/{quote(str(job_id), safe='')}"


def _split(job: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in job.items() if key not in ("type", "input")}
    return {"type": job["type"], "input": job.get("input"), "options": options}


def _submission(type: str, input: Mapping[str, Any] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"type": type}
    if input is not None:
        body["input"] = dict(input)
    for name, value in options.items():
        body[_camel(name)] = value.isoformat() if isinstance(value, datetime) else value
    return body


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
