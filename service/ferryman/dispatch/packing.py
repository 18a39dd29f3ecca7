"""Positions, claims and leases as the arguments of scripts. Ids and tokens go as 16 raw bytes, end to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from ferryman.core.job import Position
from ferryman.core.queues import PerTenant, QueueSettings, tenant_limits
from ferryman.dispatch.scripts import AT_ONCE
from ferryman.ports import Ended, Place

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces that one call of a script may take."""
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def join(ids: Iterable[UUID]) -> bytes:
    """Ids end to end."""
    return b"".join([value.bytes for value in ids])


def split(joined: bytes) -> list[UUID]:
    """The ids of an answer."""
    return [UUID(bytes=joined[at : at + 16]) for at in range(0, len(joined), 16)]


def positions(wanted: Iterable[Position]) -> tuple[bytes, bytes, bytes]:
    """ids, tokens, fields of `push`; of an id that is named twice the last word counts."""
    latest = {position.id: position for position in wanted}.values()
    fields: list[object] = []
    for position in latest:
        fields += (
            _kind(position),
            position.tenant_id,
            position.score,
            max(0, position.due_in_ms),
            position.type if position.put_off == "by_type" else max(1, position.lease_ms),
        )
    tokens = join(_token(position) for position in latest if position.kind == "running")
    return join(position.id for position in latest), tokens, _encode(fields)


def ended(claims: Sequence[Ended]) -> tuple[bytes, bytes, bytes]:
    """ids, tokens, run times of `step`."""
    if not claims:
        return b"", b"", b""
    run_ms = _encode([max(0, claim.run_ms) for claim in claims])
    return join(claim.job_id for claim in claims), join(claim.token for claim in claims), run_ms


def types(known: Sequence[str]) -> bytes:
    """types of `step`."""
    return _encode(known)


def held(leases: Sequence[tuple[UUID, UUID, str, int]]) -> tuple[bytes, bytes, bytes]:
    """ids, tokens, fields of `beat`."""
    fields: list[object] = []
    for _, _, tenant_id, visibility_ms in leases:
        fields += (tenant_id, visibility_ms)
    return join(lease[0] for lease in leases), join(lease[1] for lease in leases), _encode(fields)


def whereabouts(waiting: Sequence[Position]) -> tuple[bytes, bytes]:
    """ids, fields of `missing`."""
    fields: list[object] = []
    for position in waiting:
        fields += (position.tenant_id, position.due_in_ms)
    return join(position.id for position in waiting), _encode(fields)


def limits(settings: QueueSettings) -> tuple[bytes, bytes]:
    """limits of each tenant, tenants and limits of those that the queue has a word on, for `configure`."""
    named: list[object] = []
    for tenant_id in settings.tenants:
        named += (tenant_id, *_limits(tenant_limits(settings, tenant_id)))
    return _encode(_limits(settings.per_tenant)), _encode(named)


def _limits(allowed: PerTenant) -> tuple[object, ...]:
    return allowed.max_concurrency, allowed.rate_per_second, allowed.burst, allowed.weight


def place(answer: Sequence[Any]) -> Place | None:
    """The answer of `explain`; None when the queue is cold."""
    cold, where, ahead, comes_in_ms, ready, running, of_all, tenants_ahead, tenants, next_start_in_ms = answer
    if cold:
        return None
    return Place(
        where=where.decode(),
        ahead=_or_none(ahead),
        comes_in_ms=_or_none(comes_in_ms),
        ready=ready,
        running=running,
        running_of_all=of_all,
        tenants_ahead=_or_none(tenants_ahead),
        tenants=tenants,
        next_start_in_ms=_or_none(next_start_in_ms),
    )


def _or_none(value: int) -> int | None:
    return None if value < 0 else value


def _kind(position: Position) -> str:
    match position.kind:
        case "waiting" if position.put_off:
            return "a" if position.put_off == "by_type" else "p"
        case "waiting":
            return "r" if position.retrying else "s"
        case "running":
            return "l"
        case "gone":
            return "g"


def _token(position: Position) -> UUID:
    if position.token is None:
        raise ValueError("the position of a running job needs the token of its claim")
    return position.token
