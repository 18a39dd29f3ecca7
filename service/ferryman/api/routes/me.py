"""Who asks, and what they may: what the console and the client begin with."""

from __future__ import annotations

from typing import Final

from ferryman.api.exchange import Answer, Exchange
from ferryman.api.installation_views import EnvironmentView, LinksView, MeView
from ferryman.api.routing import Example, Route
from ferryman.api.services import Services
from ferryman.api.views import time
from ferryman.auth.policy import Call, rights_of


async def me(services: Services, exchange: Exchange) -> Answer:
    given, principal = services.given, exchange.asker.principal
    name = given.build.environment_name
    view = MeView(
        tenant_id=principal.tenant_id,
        user_id=principal.user_id,
        roles=sorted(principal.roles),
        can=rights_of(principal),
        environment=EnvironmentView(name, "alert" if name.lower().startswith("prod") else "calm"),
        server_time=time(given.clock.now()),
        version=given.build.version,
        features=["callRates"] if given.limits.calls_per_second else [],
        links=LinksView(given.build.trace_link, given.build.logs_link),
    )
    return Answer(200, view)


ROUTES: Final = (
    Route(
        method="GET",
        path="/api/me",
        name="getMe",
        summary="Read who asks and what they may",
        details=(
            "`can` lists rights, for example `job.change:own`. What it lacks is refused whoever asks for it; "
            "it is there so that nobody is offered what will be refused."
        ),
        tag="identity",
        call=Call.ME_READ,
        handle=me,
        answers={200: (MeView, "The bearer of the token")},
        examples=(Example(),),
    ),
)
