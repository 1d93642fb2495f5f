"""The door: a visitor is found out, counted, and asked for the scope, all of it before a body is read.

So whoever guesses credentials is counted too, for the address it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from tg_workbench.contracts.limits import WINDOW, Kind, address_in
from tg_workbench.contracts.premises import premises_of
from tg_workbench.contracts.trail import Actor, Trail
from tg_workbench.contracts.visitors import admit, came_by_key, identify
from tg_workbench.errors import Unauthenticated
from tg_workbench.identity import Principal


@dataclass(frozen=True, slots=True)
class Door:
    """The door of one route. `scope` is what a credential must hold; None lets anybody in."""

    contract: str
    scope: str | None
    counted: bool
    for_devices: bool

    async def enter(self, request: Request, trail: Trail | None = None) -> Principal | None:
        """Who came in, which the audit's `trail` is told.

        Raises Unauthenticated, RateLimited, PermissionDenied.
        """
        if self.scope is None:
            await self._count(request, None)
            return None
        try:
            visitor = identify(request)
        except Unauthenticated:
            await self._count(request, None)
            raise
        if trail is not None:
            trail.actor = Actor.of(visitor)
        await self._count(request, visitor)
        admit(visitor, self.scope)
        return visitor

    async def _count(self, request: Request, visitor: Principal | None) -> None:
        if not self.counted:
            return
        kind: Kind = "strangers"
        if self.for_devices:
            kind = "devices"
        elif visitor is not None:
            kind = "api_keys" if came_by_key(request, visitor) else "users"
        who = address_in(request) if visitor is None else f"{visitor.tenant_id}/{visitor.id}"
        await count(request, self.contract, kind, who)


async def count(request: Request, contract: str, kind: Kind, who: str | None) -> None:
    """Count a request of `who`, if its contract has limits. Raises RateLimited.

    A stranger without an address is this machine's own user, and not counted.
    """
    limits = premises_of(request).limits
    if who is None or contract not in limits.rules:
        return
    window = await limits.count(contract, kind, who)
    request.scope[WINDOW] = window
    window.refuse_beyond()
