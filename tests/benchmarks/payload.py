"""The work that everybody measured gets: one document of 206 bytes."""

from __future__ import annotations

import json
from typing import Any, Final

PAYLOAD_BYTES: Final = 206


def document(key: str = "") -> dict[str, Any]:
    """A JSON object that is `PAYLOAD_BYTES` long in compact form; `key` of at most 40 characters tells it."""
    shape = {"order": 4711, "customer": "Zoe Example", "express": True, "key": key.ljust(40, "."), "note": ""}
    room = PAYLOAD_BYTES - len(compact(shape))
    return shape | {"note": "n" * room}


def key_of(payload: dict[str, Any]) -> str:
    """The key that a document was made with."""
    return str(payload["key"]).rstrip(".")


def compact(value: object) -> bytes:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":")).encode()
