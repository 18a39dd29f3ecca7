"""Who asks: a verified tenant, user and set of roles."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

MAX_TENANT_CHARS: Final = 50
MAX_USER_ID: Final = 2**31 - 1  # the column is an integer


class Role(StrEnum):
    """What a token may say of its bearer (contract, section 4)."""

    VIEWER = "viewer"
    USER = "user"
    ADMIN = "admin"
    PLATFORM = "platform"
    SERVICE = "service"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The bearer of a verified token.

    `tenant_id` and `user_id` may be None only for tokens without a tenant's role (service, platform).
    `is_bound`: a service that has said for which tenant it acts; only then has it rights on a tenant's rows.
    """

    subject: str
    tenant_id: str | None
    user_id: int | None
    roles: frozenset[Role]
    is_bound: bool = False

    def acting_for(self, tenant_id: str) -> Principal:
        """The same bearer in the name of another tenant, with nothing but the role that allows it."""
        return Principal(
            subject=self.subject,
            tenant_id=tenant_id,
            user_id=self.user_id,
            roles=self.roles & {Role.SERVICE},
            is_bound=True,
        )


def is_tenant_id(value: str) -> bool:
    """Whether this may name a tenant: 1 to 50 printable characters, no space at either end."""
    return 0 < len(value) <= MAX_TENANT_CHARS and value.isprintable() and value == value.strip()
