"""One request on its way: what was asked, and the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from msgspec import Struct

from ferryman.api.problems import FieldError, Problem, invalid
from ferryman.auth.principal import Principal, Role, is_tenant_id
from ferryman.auth.tokens import TokenRefusedError, TokenVerifier
from ferryman.core.queues import is_queue_name
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.entropy import Entropy
from ferryman.lifecycle.failures import not_found

MAX_REASON_CHARS: Final = 500
MAX_KEY_CHARS: Final = 200
EVENTS_PROTOCOL: Final = "ferryman.events.v1"
_CORRELATION_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_TOKEN_PARAMETERS: Final = frozenset({"token", "access_token", "jwt", "authorization"})
_EMPTY: Final[Mapping[str, Any]] = {}
_ENTROPY: Final = Entropy()


class Answer(Struct, frozen=True):
    """What a handler answers. `view` is encoded as JSON; None: no body."""

    status: int
    view: object = None
    headers: Mapping[str, str] = _EMPTY


class Exchange(Struct, frozen=True, kw_only=True):
    """A request once it was let in: who asks, and the parameters and body in their shapes."""

    request: web.Request
    asker: Asker
    query: Any
    raw: bytes | None
    body: Any

    def id(self, name: str, what: str) -> UUID:
        """A path parameter that is an id. Raises NotFoundError: nothing has an id that is none."""
        return path_id(self.request.match_info[name], what)

    def queue_name(self) -> str:
        """The queue of the path. Raises NotFoundError for what cannot name one."""
        name = self.request.match_info["name"]
        if not is_queue_name(name):
            raise not_found("queue")
        return name


def idempotency_key(request: web.Request) -> str | None:
    """The caller's key of this submission. Raises Problem."""
    keys = request.headers.getall("Idempotency-Key", [])
    if not keys:
        return None
    if len(keys) > 1 or not 0 < len(keys[0]) <= MAX_KEY_CHARS or not keys[0].isprintable():
        message = f"takes one key of 1 to {MAX_KEY_CHARS} printable characters"
        raise invalid(FieldError("Idempotency-Key", message))
    return keys[0]


def path_id(text: str, what: str) -> UUID:
    """The id that a path names. Raises NotFoundError."""
    if _UUID.fullmatch(text) is None:
        raise not_found(what)
    return UUID(text)


def correlation_id(request: web.Request) -> str:
    """The caller's id of this request, or a fresh one when there is none that can be taken."""
    given = request.headers.get("X-Correlation-Id")
    if given is not None and _CORRELATION_ID.fullmatch(given) is not None:
        return given
    return _ENTROPY.take(16).hex()


def refuse_token_in_url(request: web.Request) -> None:
    """Raises Problem: what stands in a URL ends in logs and histories."""
    if request.query_string and any(name.lower() in _TOKEN_PARAMETERS for name in request.query):
        raise Problem("token_in_url", "a token is taken in the header Authorization: Bearer <token> only")


def introduces_itself_later(request: web.Request) -> bool:
    """Whether a browser opens a stream: it cannot set headers, and sends its token as the first message."""
    offered = [one.strip() for one in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    is_upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
    return is_upgrade and EVENTS_PROTOCOL in offered and "Authorization" not in request.headers


async def authenticate(request: web.Request, verifier: TokenVerifier) -> Principal:
    """Whose token the request carries. Raises TokenRefusedError, KeysUnavailableError."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenRefusedError("no bearer token")
    return await verifier.authenticate(token.strip())


def asker_of(request: web.Request, principal: Principal, correlation: str) -> Asker:
    """Who asks, in whose name and why. Raises Problem."""
    headers = request.headers
    tenant_id = headers.get("X-Tenant-Id")
    reason = headers.get("X-Override-Reason")
    traceparent = headers.get("traceparent")
    return Asker(
        principal=principal if tenant_id is None else _acting_for(principal, tenant_id),
        correlation_id=correlation,
        traceparent=traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None,
        override_reason=None if reason is None else _checked_reason(reason),
    )


def _acting_for(principal: Principal, tenant_id: str) -> Principal:
    if Role.SERVICE not in principal.roles:
        raise Problem("forbidden", "X-Tenant-Id is for the role service alone")
    if not is_tenant_id(tenant_id):
        raise invalid(FieldError("X-Tenant-Id", "takes 1 to 50 printable characters"))
    return principal.acting_for(tenant_id)


def _checked_reason(reason: str) -> str:
    if not 0 < len(reason) <= MAX_REASON_CHARS or not reason.isprintable():
        raise invalid(FieldError("X-Override-Reason", f"takes 1 to {MAX_REASON_CHARS} printable characters"))
    return reason
