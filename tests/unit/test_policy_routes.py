"""The policy as the contract has it: every call × role × ownership, generated from the route table.

A route without a row here fails. So does a row that says another thing than the policy does. Rows of calls
that the contract has and the route table has not yet wait for their routes.
"""

import itertools

import pytest

from ferryman.api.routes import ROUTES
from ferryman.api.routing import Route
from ferryman.auth.policy import ForbiddenError, Ownership, TenantRequiredError, may, scope_of
from ferryman.auth.principal import Principal, Role

# Who may, on what is their own, their tenant's, and shared by all or across tenants: u user, v viewer,
# a admin, p platform, s service (with X-Tenant-Id for the first two). Nothing is open on a foreign tenant's.
CONTRACT: dict[str, tuple[str, str, str]] = {
    #                                              own     tenant  all
    "POST /api/jobs": ("uas", "", ""),
    "POST /api/jobs/bulk": ("uas", "", ""),
    "GET /api/jobs": ("uvas", "vas", ""),
    "GET /api/jobs/{jobId}": ("uvas", "vas", ""),
    "GET /api/jobs/{jobId}/history": ("uvas", "vas", ""),
    "GET /api/jobs/{jobId}/explain": ("uvas", "vas", ""),
    "GET /api/jobs/{jobId}/wait": ("uvas", "vas", ""),
    "POST /api/jobs/{jobId}/cancel": ("uas", "as", ""),
    "POST /api/jobs/{jobId}/retry": ("uas", "as", ""),
    "GET /api/jobs/stats": ("", "uvas", ""),
    "GET /api/jobs/queue/status": ("", "uvas", "ps"),
    "POST /api/jobs/retention": ("", "as", "s"),
    "POST /api/jobs/reconcile-dead-letter": ("", "as", "s"),
    "GET /api/dead-letters": ("uvas", "vas", ""),
    "GET /api/dead-letters/{deadLetterId}": ("uvas", "vas", ""),
    "POST /api/dead-letters/{deadLetterId}/requeue": ("uas", "as", ""),
    "DELETE /api/dead-letters/{deadLetterId}": ("as", "as", ""),
    "GET /api/queues": ("", "", "uvaps"),
    "GET /api/queues/{name}": ("", "", "uvaps"),
    "PUT /api/queues/{name}": ("", "", "ps"),
    "DELETE /api/queues/{name}": ("", "", "ps"),
    "POST /api/queues/{name}/pause": ("", "", "ps"),
    "POST /api/queues/{name}/resume": ("", "", "ps"),
    "GET /api/workers": ("", "", "vaps"),
    "POST /api/workers/{workerId}/drain": ("", "", "ps"),
    "DELETE /api/workers/{workerId}/drain": ("", "", "ps"),
    "DELETE /api/workers/{workerId}": ("", "", "s"),
    "GET /api/audit": ("", "vas", ""),
    "GET /api/events": ("uvas", "vas", ""),
    "GET /api/webhooks": ("", "a", ""),
    "POST /api/webhooks": ("", "a", ""),
    "GET /api/webhooks/{webhookId}": ("", "a", ""),
    "PUT /api/webhooks/{webhookId}": ("", "a", ""),
    "DELETE /api/webhooks/{webhookId}": ("", "a", ""),
    "POST /api/webhooks/{webhookId}/rotate-secret": ("", "a", ""),
    "GET /api/webhooks/{webhookId}/deliveries": ("", "a", ""),
    "GET /api/me": ("", "", "uvaps"),
}
LETTERS = {Role.USER: "u", Role.VIEWER: "v", Role.ADMIN: "a", Role.PLATFORM: "p", Role.SERVICE: "s"}
# What a token can say: each known role, none, and one that nobody knows, which is the same as none.
SAYINGS: list[Role | None] = [*Role, None]


def line(route: Route) -> str:
    return f"{route.method} {route.path}"


def bearer(role: Role | None, *, bound: bool = False) -> Principal:
    roles = frozenset() if role is None else frozenset({role})
    principal = Principal(subject="7", tenant_id="acme", user_id=7, roles=roles)
    return principal.acting_for("acme") if bound else principal


def allowed(route: Route, role: Role | None, ownership: Ownership) -> bool:
    own, tenant, everything = CONTRACT[line(route)]
    letters = {Ownership.OWN: own, Ownership.TENANT: tenant, Ownership.ALL: everything, Ownership.FOREIGN: ""}
    return role is not None and LETTERS[role] in letters[ownership]


def test_every_route_has_its_row() -> None:
    assert [line(route) for route in ROUTES if line(route) not in CONTRACT] == []
    assert len({line(route) for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=line)
def test_the_policy_is_the_contract_s(route: Route) -> None:
    for role, ownership in itertools.product(SAYINGS, Ownership):
        principal = bearer(role, bound=role is Role.SERVICE and ownership is not Ownership.ALL)
        granted = may(principal, route.call, ownership) is not None
        assert granted == allowed(route, role, ownership), (line(route), role, ownership)


@pytest.mark.parametrize("route", ROUTES, ids=line)
def test_a_route_lets_in_whom_any_of_its_rights_lets_in(route: Route) -> None:
    """The first gate of a call, before anything is read: `scope_of` in the endpoint."""
    for role in SAYINGS:
        reachable = [o for o in Ownership if allowed(route, role, o)]
        try:
            scope = scope_of(bearer(role), route.call)
        except ForbiddenError:
            assert not reachable, (line(route), role)
        except TenantRequiredError:
            assert role is Role.SERVICE
            assert Ownership.ALL not in reachable
        else:
            assert reachable
            assert scope.tenant_id in (None, "acme")
            if scope.tenant_id is None:
                assert Ownership.ALL in reachable, (line(route), role)
            if scope.user_id is None and scope.tenant_id is not None:
                assert Ownership.TENANT in reachable, (line(route), role)


@pytest.mark.parametrize("route", ROUTES, ids=line)
def test_a_bound_service_never_leaves_its_tenant_where_tenants_have_data(route: Route) -> None:
    if allowed(route, Role.SERVICE, Ownership.TENANT):
        assert scope_of(bearer(Role.SERVICE, bound=True), route.call).tenant_id == "acme"
