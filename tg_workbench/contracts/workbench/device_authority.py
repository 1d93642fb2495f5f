"""What anybody may know of those who certify devices: the authority, the server's keys, what was revoked."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter, Response

from tg_workbench.contracts.providers import AnyId, ServerKeysRoom, ThePremises, Transaction
from tg_workbench.contracts.route import FAILURES, public
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.views import View
from tg_workbench.federation.devices import ServerKey

router = APIRouter(
    prefix="/workbench/v1/federation", route_class=WorkbenchRoute, tags=["Devices"], responses=FAILURES
)
PEM = "application/x-pem-file"
CACHED = {"Cache-Control": "public, max-age=300"}
PEM_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {PEM: {"schema": {"type": "string"}}}, "description": "PEM."}
}


class ServerKeyView(View):
    """A version of the server's signing key (ML-DSA-65, base64), and the signature of the one before."""

    key_version: str
    signing_key: str
    endorsement: str | None

    @classmethod
    def of(cls, key: ServerKey) -> ServerKeyView:
        """A row, as it is shown."""
        endorsement = None if key.endorsement is None else base64.b64encode(key.endorsement).decode()
        return cls(
            key_version=key.version,
            signing_key=base64.b64encode(key.signing_key).decode(),
            endorsement=endorsement,
        )


class ServerKeyList(View):
    """Versions, the oldest first."""

    server_keys: list[ServerKeyView]


@router.get("/ca", response_class=Response, responses=PEM_ANSWER)
@public
async def get_authority(premises: ThePremises) -> Response:
    """The certificates of the authority that certifies devices: the issuing one's, then the root's."""
    return Response(premises.certificates.chain_pem, media_type=PEM, headers=CACHED)


@router.get("/server-keys")
@public
async def list_server_keys(server: ServerKeysRoom, after: AnyId = None) -> ServerKeyList:
    """The server's own signing keys after one that a device knows, each signed by the one before it."""
    return ServerKeyList(server_keys=[ServerKeyView.of(key) for key in server.after(after)])


@router.get("/crl", response_class=Response, responses=PEM_ANSWER)
@public
async def get_revocation_list(premises: ThePremises, session: Transaction) -> Response:
    """The signed list of certificates that were revoked, for those who cannot ask us."""
    return Response(premises.certificates.revocation_list(session), media_type=PEM, headers=CACHED)
