"""Our own routes for devices: what QFLARE's document needs and has no word for.

Enrolment tokens, how a device signs in, its heartbeat and its own keys; and what anybody may know of the
authority that certifies devices.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from tg_workbench.contracts import device_forms as forms
from tg_workbench.contracts.accounts import UNSTORED, utc
from tg_workbench.contracts.joining import TheJoinDesk
from tg_workbench.contracts.providers import (
    DeviceId,
    DeviceKeysRoom,
    DeviceSignInRoom,
    DevicesRoom,
    EnrollmentTokenId,
    EnrollmentTokensRoom,
    Limit,
    Offset,
    RoundsRoom,
    ServerKeysRoom,
    SignedIn,
    SignedInDevice,
    ThePremises,
    Transaction,
    Wait,
)
from tg_workbench.contracts.qflare.device_views import DeviceView, KeyView
from tg_workbench.contracts.route import FAILURES, asks_only, needs, public
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm, Form, Id
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.contracts.trail import Actor, acts
from tg_workbench.contracts.workbench.schemas import Deleted
from tg_workbench.federation.devices import (
    Assertion,
    DeviceChange,
    DeviceKey,
    Enrolled,
    EnrollmentToken,
    SignedDevice,
    device_status_of,
    is_due,
)
from tg_workbench.federation.rounds import Round
from tg_workbench.identity import DEVICE
from tg_workbench.storage.database import now

router = APIRouter(prefix="/workbench/v1", route_class=WorkbenchRoute, tags=["Devices"], responses=FAILURES)
PEM = "application/x-pem-file"
CACHED = {"Cache-Control": "public, max-age=300"}
PEM_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {PEM: {"schema": {"type": "string"}}}, "description": "PEM."}
}


# ----------------------------------------------------------------------------- enrolment tokens
class IssueToken(ExactForm):
    """For which device, in words; into one's own organisation, or one that the operator names."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")] | None = None
    organization_id: Id | None = None
    expires_in_hours: Annotated[float, Field(gt=0, le=24)] = 24.0


class TokenView(View):
    """An open enrolment token, without its secret."""

    enrollment_token_id: str
    name: str | None
    organization_id: str
    last_four: str
    created_at: str
    expires_at: str


class IssuedToken(TokenView):
    """A new one. The token is in this answer and nowhere else."""

    enrollment_token: str


class TokenList(View):
    """A page of open enrolment tokens, the newest first."""

    enrollment_tokens: list[TokenView]
    total: int
    limit: int
    offset: int


def _shown(token: EnrollmentToken) -> dict[str, Any]:
    return {
        "enrollment_token_id": token.id,
        "name": token.name,
        "organization_id": token.organization_id,
        "last_four": token.last_four,
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
    }


@router.post("/enrollment-tokens", status_code=201)
@needs("devices")
async def issue_enrollment_token(
    body: IssueToken, owner: SignedIn, tokens: EnrollmentTokensRoom, answer: Response
) -> IssuedToken:
    """A token that lets one device into your organisation, once, within a day."""
    token, secret = tokens.issue(owner, **body.model_dump())
    answer.headers.update(UNSTORED)
    return IssuedToken(**_shown(token), enrollment_token=secret)


@router.get("/enrollment-tokens")
@needs("devices")
async def list_enrollment_tokens(
    owner: SignedIn, tokens: EnrollmentTokensRoom, limit: Limit = 50, offset: Offset = 0
) -> TokenList:
    """List the tokens that no device has used yet."""
    page, total = tokens.list_page(owner, limit=limit, offset=offset)
    shown = [TokenView(**_shown(token)) for token in page]
    return TokenList(enrollment_tokens=shown, total=total, limit=limit, offset=offset)


@router.delete("/enrollment-tokens/{enrollment_token_id}")
@needs("devices")
async def revoke_enrollment_token(
    enrollment_token_id: EnrollmentTokenId, owner: SignedIn, tokens: EnrollmentTokensRoom
) -> Deleted:
    """Revoke a token that no device has used yet."""
    tokens.revoke(owner, enrollment_token_id)
    return Deleted()


# ----------------------------------------------------------------------------- for devices
class SignInAsDevice(ExactForm):
    """A signature (ML-DSA-65, context `tg-device-token-v1`) of three lines: device_id, timestamp, nonce."""

    device_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
    timestamp: Annotated[int, Field(ge=0, le=2**53)]
    nonce: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,128}$")]
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{4412}$")]

    def as_assertion(self) -> Assertion:
        """The room's value: a signature has 3,309 bytes, and so 4,412 characters."""
        return Assertion(self.device_id, self.timestamp, self.nonce, base64.b64decode(self.signature))


class DeviceToken(View):
    """What a device shows from now on, bound to the certificate that it has signed in with."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105  (a kind of token, and no secret)
    expires_in: int
    key_version: str


class Beat(Form):
    """A sign of life; a device whose machine has changed says how."""

    capabilities: forms.Capabilities | None = None


class RoundOffered(View):
    """A round that the device may join now, or that it has joined and not served yet."""

    id: str
    phase: str
    campaign_id: str
    number: int

    @classmethod
    def of(cls, round_: Round) -> RoundOffered:
        """A row, as it is shown."""
        return cls(id=round_.id, phase=round_.phase, campaign_id=round_.campaign_id, number=round_.number)


class HeartbeatView(View):
    """How the device stands, how it is to behave, whether it is to bring new keys, what it may join now."""

    device_id: str
    status: str
    server_time: str
    config: dict[str, Any]
    key_version: str
    rotate_keys: bool
    rotate_by: str
    rounds: list[RoundOffered]


class RotatedKeys(View):
    """A device's new certificate; `quantum_keys` are as at its registration."""

    device_id: str
    certificate: str
    certificate_chain: str
    certificate_expiry: str
    key_version: str
    key_origin: str
    keys_expire_at: str
    quantum_keys: dict[str, str]
    server_keys: dict[str, str]


@router.post("/devices/token")
@public
async def sign_in_device(
    body: SignInAsDevice, sign_in: DeviceSignInRoom, premises: ThePremises
) -> DeviceToken:
    """Sign a device in: a token for an hour, for a signature that is good once and for five minutes."""
    found = sign_in.by_assertion(body.as_assertion())
    acts(Actor.of(found.principal))
    token = found.token
    return DeviceToken(
        access_token=premises.access_tokens.sign(token),
        expires_in=token.lifetime_seconds,
        key_version=found.key.version,
    )


@router.post("/devices/{device_id}/heartbeat")
@needs(DEVICE)
@asks_only
async def beat(
    device_id: DeviceId,
    desk: TheJoinDesk,
    endpoint: forms.ServerEndpoint,
    body: Beat | None = None,
    wait: Wait = 0,
) -> HeartbeatView:
    """A device's sign of life. None is in the audit log: there are too many, and each says the same.

    With `wait` the answer is held back for up to so many seconds, until there is a round to join.
    """
    said = body.capabilities if body is not None else None
    change = DeviceChange(capabilities=said.model_dump(exclude_unset=True)) if said is not None else None
    signed_in = desk.beat(device_id, change)
    offered = [RoundOffered.of(each) for each in await desk.offers(wait)]
    return _heartbeat(signed_in, endpoint, offered)


def _heartbeat(signed_in: SignedDevice, endpoint: str, rounds: list[RoundOffered]) -> HeartbeatView:
    device, key = signed_in.device, signed_in.key
    ends = (key.expires_at, key.certificate_expires_at, key.retires_at)
    return HeartbeatView(
        device_id=device.id,
        status=device_status_of(device).value,
        server_time=iso(now()),
        config=forms.config_of(device, endpoint),
        key_version=key.version,
        rotate_keys=is_due(key, now()) and device.key_version == key.version,
        rotate_by=utc(min(end for end in ends if end is not None)),
        rounds=rounds,
    )


@router.post("/devices/{device_id}/keys", status_code=201)
@needs(DEVICE)
async def rotate_own_keys(
    device_id: DeviceId,
    body: forms.KeysOffered,
    signed_in: SignedInDevice,
    keys: DeviceKeysRoom,
    server: ServerKeysRoom,
    premises: ThePremises,
    answer: Response,
) -> RotatedKeys:
    """Bring new keys, or the same again for a new certificate. The last ones stay good for a week."""
    pairs = body.as_offer().pairs(must_bring=_must_bring(signed_in, premises))
    key = keys.rotate(signed_in.device, pairs, premises.certificates)
    answer.headers.update(UNSTORED)
    current = server.current()
    return RotatedKeys(
        device_id=device_id,
        quantum_keys=forms.quantum_keys_shown(Enrolled(signed_in.device, key, pairs), current),
        server_keys=forms.server_keys_shown(current),
        **forms.certified(key, premises.certificates.chain_pem),
    )


def _version(key: DeviceKey) -> VersionView:
    return VersionView(
        **KeyView.of(key).model_dump(),
        serial=key.serial,
        thumbprint=key.thumbprint,
        certificate_expiry=utc(key.certificate_expires_at),
        retires_at=None if key.retires_at is None else utc(key.retires_at),
        revoked_at=None if key.revoked_at is None else utc(key.revoked_at),
    )


def _must_bring(signed_in: SignedDevice, premises: ThePremises) -> bool:
    """A device that had keys of its own is never given any: whoever asks for some might not be the device."""
    return premises.settings.require_device_keys or signed_in.key.origin == "device"


# ----------------------------------------------------------------------------- for those whose they are
class VersionView(KeyView):
    """One version of a device's keys, with its certificate's marks."""

    serial: str
    thumbprint: str
    certificate_expiry: str
    retires_at: str | None
    revoked_at: str | None


class VersionList(View):
    """Every version of a device's keys that is remembered, the newest first."""

    keys: list[VersionView]


class Revoke(ExactForm):
    """Why, in a word that everybody may hear."""

    reason: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")] = "unspecified"


@router.get("/devices/{device_id}/keys")
async def list_key_history(
    device_id: DeviceId, owner: SignedIn, devices: DevicesRoom, keys: DeviceKeysRoom
) -> VersionList:
    """Every version of a device's keys, the newest first."""
    found = keys.versions(devices.get(owner, device_id).id)
    return VersionList(keys=[_version(key) for key in found])


@router.post("/devices/{device_id}/revoke")
@needs("devices")
async def revoke_device(
    device_id: DeviceId,
    owner: SignedIn,
    devices: DevicesRoom,
    rounds: RoundsRoom,
    body: Revoke | None = None,
) -> DeviceView:
    """Let nothing that a device shows be good any more, nor what it has sent for rounds under way."""
    device = devices.get(owner, device_id)
    devices.revoke(device, (body or Revoke()).reason)
    rounds.drop(device)
    return DeviceView.of(device)


# ----------------------------------------------------------------------------- for everybody
@router.get("/federation/ca", response_class=Response, responses=PEM_ANSWER)
@public
async def get_authority(premises: ThePremises) -> Response:
    """The certificates of the authority that certifies devices: the issuing one's, then the root's."""
    return Response(premises.certificates.chain_pem, media_type=PEM, headers=CACHED)


@router.get("/federation/crl", response_class=Response, responses=PEM_ANSWER)
@public
async def get_revocation_list(premises: ThePremises, session: Transaction) -> Response:
    """The signed list of certificates that were revoked, for those who cannot ask us."""
    return Response(premises.certificates.revocation_list(session), media_type=PEM, headers=CACHED)
