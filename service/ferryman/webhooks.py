"""Signatures of webhooks: what a receiver checks before it believes a body.

from ferryman.webhooks import SignatureError, verify

event_id = verify(["whsec_…"], request.headers, await request.read())
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

EVENT_ID_HEADER: Final = "Ferryman-Event-Id"
SIGNATURE_HEADER: Final = "Ferryman-Signature"
TOLERANCE_S: Final = 300.0

_TIME: Final = re.compile(r"[0-9]{1,12}")
_MAX_PARTS: Final = 16

__all__ = ["EVENT_ID_HEADER", "SIGNATURE_HEADER", "SignatureError", "sign", "verify"]


class SignatureError(Exception):
    """The request does not come from who holds the secret, or comes too late. Answer it with 400."""


def sign(secrets: Sequence[str], at_s: int, body: bytes) -> str:
    """The value of `Ferryman-Signature`: `t=<unix>,v1=<hex>`, a `v1` for each secret.

    Each is the HMAC-SHA256 of `<t>.<body>` under the secret's text as it is, `whsec_` included.
    """
    return ",".join([f"t={at_s}", *(f"v1={_digest(secret, at_s, body)}" for secret in secrets)])


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    tolerance_s: float = TOLERANCE_S,
    *,
    now_s: float | None = None,
) -> str:
    """The event's id, once one signature holds for one secret. Raises SignatureError.

    `body` are the bytes as they came. A request that was signed more than `tolerance_s` ago or ahead is
    refused, so that none can be sent again later. Deliveries may come twice: keep the id, and do things once.
    """
    given = {name.lower(): value for name, value in headers.items()}
    signed_at, signatures = _parse(given.get(SIGNATURE_HEADER.lower(), ""))
    if abs((time.time() if now_s is None else now_s) - signed_at) > tolerance_s:
        raise SignatureError("the signature's time is too far from now")
    expected = [_digest(secret, signed_at, body) for secret in secrets]
    # Every pair is compared, so that the time it takes tells nothing.
    matches = [hmac.compare_digest(one.encode(), two.encode()) for one in expected for two in signatures]
    if not any(matches):
        raise SignatureError("no signature fits the body and any of the secrets")
    event_id = given.get(EVENT_ID_HEADER.lower(), "")
    if not event_id:
        raise SignatureError(f"the header {EVENT_ID_HEADER} is missing")
    return event_id


def _parse(header: str) -> tuple[int, list[str]]:
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    signatures = [value for name, _, value in parts if name == "v1"]
    if len(parts) > _MAX_PARTS or len(times) != 1 or not _TIME.fullmatch(times[0]) or not signatures:
        raise SignatureError(f"the header {SIGNATURE_HEADER} is missing or malformed")
    return int(times[0]), signatures


def _digest(secret: str, at_s: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
