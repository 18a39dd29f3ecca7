"""What the calls about the installation answer: who asks, and its workers."""

from __future__ import annotations

from typing import Literal

from ferryman.api.views import Shape, Time, time
from ferryman.ports import WorkerRecord, WorkerState


class EnvironmentView(Shape):
    """What people call the installation; `alert` where a mistake hurts: its name begins with `prod`."""

    name: str
    tone: Literal["calm", "alert"]


class LinksView(Shape):
    """Addresses with `{traceId}`, `{correlationId}` or `{jobId}` where the id belongs."""

    trace: str | None
    logs: str | None


class MeView(Shape):
    """Who asks. `can` names every right as `<call>:<ownership>`, the ownership one of own, tenant, all."""

    tenant_id: str | None
    user_id: int | None
    roles: list[str]
    can: list[str]
    environment: EnvironmentView
    server_time: Time
    version: str
    features: list[Literal["callRates"]]
    links: LinksView


class WorkerView(Shape):
    """A worker as its last beat left it; `lost` once it has been silent for six seconds."""

    worker_id: str
    pod: str
    queues: list[str]
    types: list[str]
    slots: int
    busy: int
    state: WorkerState
    drain_requested: bool
    started_at: Time
    last_heartbeat_at: Time


class WorkerListView(Shape):
    workers: list[WorkerView]


def worker_view(worker: WorkerRecord) -> WorkerView:
    """A worker in answers."""
    return WorkerView(
        worker_id=worker.id,
        pod=worker.pod,
        queues=worker.queues,
        types=worker.types,
        slots=worker.slots,
        busy=worker.busy,
        state=worker.state,
        drain_requested=worker.drain_requested,
        started_at=time(worker.started_at),
        last_heartbeat_at=time(worker.beat_at),
    )
