"""The door: a visitor is found out, counted, and asked for the scope, all of it before a body is read.

So whoever guesses credentials is counted too, for the address it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from tg_workbench.contracts.limits import WINDOW, Kind, address_of
from tg_workbench.contracts.premises import premises_of
from tg_workbench.contracts.visitors import has_api_key, permit, visitor_of
from tg_workbench.errors import Unauthenticated
from tg_workbench.identity import Principal


@dataclass(frozen=True, slots=True)
class Door:
    """The door of one route. `scope` is what a credential must hold; None lets anybody in."""

    contract: str
    scope: str | None
    counted: bool
    for_devices: bool

    async def enter(self, request: Request) -> Principal | None:
        """Who came in. Raises Unauthenticated, RateLimited, PermissionDenied."""
        if self.scope is None:
            await self._count(request, None)
            return None
        try:
            visitor = visitor_of(request)
        except Unauthenticated:
            await self._count(request, None)
            raise
        await self._count(request, visitor)
        permit(visitor, self.scope)
        return visitor

    async def _count(self, request: Request, visitor: Principal | None) -> None:
        limits = premises_of(request).limits
        if not self.counted or self.contract not in limits.rules:
            return
        kind: Kind = "strangers"
        if self.for_devices:
            kind = "devices"
        elif visitor is not None:
            kind = "api_keys" if has_api_key(request) else "users"
        host = request.client.host if request.client else None
        who = address_of(host) if visitor is None else f"{visitor.tenant_id}/{visitor.id}"
        window = await limits.count(self.contract, kind, who)
        request.scope[WINDOW] = window
        window.refuse_beyond()
