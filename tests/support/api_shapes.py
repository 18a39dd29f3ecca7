"""Jobs as the ledger answers them, for tests of what is made of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ferryman.core.job import Job
from ferryman.core.status import JobStatus

AT = datetime(2027, 1, 15, 8, 30, 0, 123_456, tzinfo=UTC)


def job(**fields: Any) -> Job:
    """A pending job of tenant acme, with these fields changed."""
    defaults: dict[str, Any] = {
        "id": UUID(int=7),
        "tenant_id": "acme",
        "user_id": 1,
        "type": "chat",
        "queue": "default",
        "status": JobStatus.PENDING,
        "priority": 0,
        "input": b"{}",
        "output": None,
        "error_class": None,
        "error_message": None,
        "error_details": None,
        "fingerprint": None,
        "attempt": 0,
        "retry_count": 0,
        "max_retries": 3,
        "retry_delay_ms": 1_000,
        "crashes": 0,
        "visibility_timeout_ms": 30_000,
        "timeout_ms": None,
        "progress_percent": None,
        "progress_note": None,
        "tags": [],
        "metadata": b"{}",
        "unique_key": None,
        "worker_id": None,
        "cancel_requested": False,
        "correlation_id": "corr-1",
        "traceparent": None,
        "created_at": AT,
        "updated_at": AT,
        "run_at": AT,
        "started_at": None,
        "completed_at": None,
        "expires_at": None,
    }
    return Job(**(defaults | fields))
