"""Who asks, in which request: what every question about a job comes with."""

from __future__ import annotations

import msgspec

from ferryman.auth.policy import Call, ForbiddenError, Ownership, may, ownership_of, scope_of
from ferryman.auth.principal import Principal
from ferryman.core.job import Actor
from ferryman.ports import Scope


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """A principal and the request it came with."""

    principal: Principal
    correlation_id: str
    traceparent: str | None = None
    override_reason: str | None = None

    @property
    def trace_id(self) -> str | None:
        """The trace of `traceparent`, 32 hex digits."""
        return None if self.traceparent is None else self.traceparent[3:35]

    def scope(self, call: Call) -> Scope:
        """Whose rows this call may touch. Raises ForbiddenError, TenantRequiredError."""
        return scope_of(self.principal, call)

    def actor(self, call: Call, ownership: Ownership) -> Actor:
        """How the audit names this asker. Raises ForbiddenError."""
        grant = may(self.principal, call, ownership)
        if grant is None:
            raise ForbiddenError("this call is not open to the token's roles")
        return Actor(
            kind=grant.kind,
            id=self.principal.subject,
            correlation_id=self.correlation_id,
            trace_id=self.trace_id,
            override=grant.override,
            override_reason=self.override_reason if grant.override else None,
        )

    def actor_on(self, call: Call, tenant_id: str, user_id: int) -> Actor:
        """How the audit names this asker acting on a row of that tenant and user. Raises ForbiddenError."""
        return self.actor(call, ownership_of(self.principal, tenant_id, user_id))
