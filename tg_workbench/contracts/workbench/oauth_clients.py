"""Our own routes about OAuth clients: QFLARE's document uses them and has no word on where they come from."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from tg_workbench.contracts.providers import Limit, OAuthClientId, OAuthClientsRoom, Offset, SignedIn
from tg_workbench.contracts.route import FAILURES, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.contracts.workbench.schemas import Deleted
from tg_workbench.identity import NewClient, OAuthClient

router = APIRouter(prefix="/workbench/v1", route_class=WorkbenchRoute, tags=["OAuth"], responses=FAILURES)
Address = Annotated[str, Field(min_length=1, max_length=1000)]


class RegisterClient(ExactForm):
    """An application. One that runs where its users could read a secret is not `confidential`."""

    name: str = Field(min_length=1, max_length=200, pattern=r"\S")
    redirect_uris: Annotated[list[Address], Field(min_length=1, max_length=16)]
    scope: str = Field(default="read", min_length=1, max_length=500)
    confidential: bool = True

    def as_client(self) -> NewClient:
        """The room's value."""
        return NewClient(self.name, tuple(self.redirect_uris), self.scope, self.confidential)


class ClientView(View):
    """An application, without its secret."""

    client_id: str
    name: str
    organization_id: str
    redirect_uris: list[str]
    scope: str
    confidential: bool
    created_at: str


class RegisteredClient(ClientView):
    """A new application. Its secret is in this answer and nowhere else; a public one has none."""

    client_secret: str | None


class ClientList(View):
    """A page of applications, the newest first."""

    oauth_clients: list[ClientView]
    total: int
    limit: int
    offset: int


def _shown(client: OAuthClient) -> dict[str, Any]:
    return {
        "client_id": client.id,
        "name": client.name,
        "organization_id": client.organization_id,
        "redirect_uris": client.redirect_uris,
        "scope": client.scope,
        "confidential": client.secret_hash is not None,
        "created_at": iso(client.created_at),
    }


@router.post("/oauth_clients", status_code=201)
@needs("admin")
async def register_oauth_client(
    body: RegisterClient, owner: SignedIn, clients: OAuthClientsRoom
) -> RegisteredClient:
    """Register an application, which the members of your organisation may then let in."""
    client, secret = clients.register(owner, body.as_client())
    return RegisteredClient(**_shown(client), client_secret=secret)


@router.get("/oauth_clients")
@needs("admin")
async def list_oauth_clients(
    owner: SignedIn, clients: OAuthClientsRoom, limit: Limit = 50, offset: Offset = 0
) -> ClientList:
    """List your organisation's applications."""
    page, total = clients.list_page(owner, limit=limit, offset=offset)
    shown = [ClientView(**_shown(client)) for client in page]
    return ClientList(oauth_clients=shown, total=total, limit=limit, offset=offset)


@router.delete("/oauth_clients/{oauth_client_id}")
@needs("admin")
async def remove_oauth_client(
    oauth_client_id: OAuthClientId, owner: SignedIn, clients: OAuthClientsRoom
) -> Deleted:
    """Remove an application: whoever let it in is rid of it at once."""
    clients.remove(owner, oauth_client_id)
    return Deleted()
