"""Tokens for development and for the stack's own processes, signed with the shared secret."""

from __future__ import annotations

from collections.abc import Sequence

import jwt


def mint(
    secret: str,
    *,
    tenant_id: str | None,
    user_id: int | None,
    roles: Sequence[str],
    now_s: int,
    ttl_s: int,
    issuer: str | None = None,
    audience: str | None = None,
) -> str:
    """An HS256 token that is valid from `now_s` (Unix time) for `ttl_s` seconds. None leaves a claim out."""
    claims: dict[str, object] = {
        "tenant_id": tenant_id,
        "user_id": user_id,
        "sub": None if user_id is None else str(user_id),
        "roles": list(roles),
        "iat": now_s,
        "exp": now_s + ttl_s,
        "iss": issuer,
        "aud": audience,
    }
    given = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(given, secret, algorithm="HS256")
