"""Three tenants with several users and roles, what each may see, and a watch over every answer.

Everything secret carries a canary that names its owner. An answer is watched for canaries and for the ids of
jobs, dead letters and webhooks: none may be there that its reader has no right to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.support.api import SERVICE, Api, Reply, token

TENANTS = ("acme", "globex", "initech")
_CANARY = re.compile(r"canary-(\w+)-u(\d+)-[0-9a-f]{8}")
_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclass(frozen=True)
class Reader:
    """Somebody who calls. `tenant` None: sees no tenant's rows."""

    name: str
    tenant: str | None
    user: int
    role: str
    bearer: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def sees_all(self) -> bool:
        """Whether all of the tenant is seen, and not its own part alone."""
        return self.role in ("admin", "viewer", "service")

    @property
    def submits(self) -> bool:
        return self.role in ("user", "admin", "service")

    @property
    def manages(self) -> bool:
        return self.role in ("admin", "service")

    def may_see(self, tenant: str, user: int | None) -> bool:
        """Whether this reader may see what this user of this tenant owns; None: the tenant as a whole."""
        return tenant == self.tenant and (self.sees_all or user == self.user)


@dataclass(frozen=True)
class Owned:
    """Something that has an id, and whose it is."""

    id: str
    kind: str
    tenant: str
    user: int | None
    fields: dict[str, Any] = field(default_factory=dict)


def readers() -> list[Reader]:
    """The same users and roles in every tenant, and one who sees no tenant's rows."""
    found = [Reader("platform", None, 9, "platform", token("platform", tenant="acme", user=9))]
    for tenant in TENANTS:
        for user, role in ((1, "user"), (2, "user"), (3, "admin"), (4, "viewer")):
            bearer = token(role, tenant=tenant, user=user)
            found.append(Reader(f"{role} {user} of {tenant}", tenant, user, role, bearer))
        found.append(Reader(f"service for {tenant}", tenant, 0, "service", SERVICE, {"X-Tenant-Id": tenant}))
    return found


class World:
    """What there is and whose it is."""

    def __init__(self, api: Api, dice: Random) -> None:
        self.api = api
        self.dice = dice
        self.readers = readers()
        self.owned: dict[str, Owned] = {}
        self.letters_open: set[str] = set()
        self.cursors: list[tuple[str, str]] = []
        self.digests: list[tuple[str, str]] = []
        self.log: list[str] = []

    def canary(self, reader: Reader) -> str:
        """A fresh secret of this reader."""
        return f"canary-{reader.tenant}-u{reader.user}-{self.dice.getrandbits(32):08x}"

    def own(self, kind: str, thing_id: str, tenant: str, user: int | None, **fields: Any) -> None:
        self.owned.setdefault(thing_id, Owned(thing_id, kind, tenant, user, fields))

    def things(self, kind: str, reader: Reader | None = None) -> list[Owned]:
        """All of a kind, or what the reader may see of it."""
        return [
            one
            for one in self.owned.values()
            if one.kind == kind and (reader is None or reader.may_see(one.tenant, one.user))
        ]

    def any_id(self, kind: str) -> str:
        """The id of anything of this kind, whoever owns it; of nothing when there is none."""
        things = self.things(kind)
        return self.dice.choice(things).id if things else "00000000-0000-7000-8000-000000000000"

    async def call(
        self,
        reader: Reader,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        shared: Iterable[str] = (),
    ) -> Reply:
        """A call whose answer is watched. `shared`: ids that this answer may show beside the reader's own."""
        sent = reader.headers | (headers or {})
        reply = await self.api.call(method, path, body, bearer=reader.bearer, headers=sent)
        self.log.append(f"{reader.name}: {method} {path} {body or ''} -> {reply.status}")
        assert reply.status < 500, (self.log[-5:], reply.text)
        said = f"{method} {path} {body} {sent}"
        self.watch(reader, f"{reply.headers} {reply.text}", said, shared=shared)
        return reply

    def watch(self, reader: Reader, text: str, said: str = "", *, shared: Iterable[str] = ()) -> None:
        """Raises AssertionError when the text shows what the reader may not see and has not said itself."""
        for found in _CANARY.finditer(text):
            is_own = reader.may_see(found[1], int(found[2]))
            assert is_own or found[0] in said, (reader.name, found[0], text[:2_000], self.log[-5:])
        for thing_id in set(_ID.findall(text)) - set(_ID.findall(said)) - set(shared):
            thing = self.owned.get(thing_id)
            assert thing is None or reader.may_see(thing.tenant, thing.user), (
                reader.name,
                thing,
                text[:2_000],
                self.log[-5:],
            )

    async def pages(self, reader: Reader, path: str, wrapper: str, limit: int = 7) -> list[dict[str, Any]]:
        """Everything that a list shows, page by page; the cursors are kept for others to try."""
        rows: list[dict[str, Any]] = []
        cursor, mark = "", "&" if "?" in path else "?"
        while True:
            reply = await self.call(reader, "GET", f"{path}{mark}limit={limit}{cursor}")
            assert reply.status == 200, reply.text
            rows += reply.json[wrapper]
            following = reply.json["nextCursor"]
            if following is None:
                return rows
            self.cursors.append((path.partition("?")[0], following))
            cursor = f"&cursor={following}"


def no_canary(text: str) -> bool:
    """Whether the text shows nobody's secret."""
    return _CANARY.search(text) is None
