"""Our own routes for devices: how one signs in, its signs of life, and that it is let in no more."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from tg_workbench.contracts import device_forms as forms
from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.joining import TheJoinDesk
from tg_workbench.contracts.providers import (
    DeviceId,
    DeviceSignInRoom,
    DevicesRoom,
    RoundsRoom,
    SignedIn,
    ThePremises,
    Wait,
)
from tg_workbench.contracts.qflare.device_views import DeviceView
from tg_workbench.contracts.route import FAILURES, asks_only, needs, public
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm, Form
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.contracts.trail import Actor, acts
from tg_workbench.federation.devices import (
    Assertion,
    DeviceChange,
    SignedDevice,
    device_status_of,
    is_due,
)
from tg_workbench.federation.rounds import Offer
from tg_workbench.identity import DEVICE
from tg_workbench.storage.database import now

router = APIRouter(
    prefix="/workbench/v1/devices", route_class=WorkbenchRoute, tags=["Devices"], responses=FAILURES
)


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


CampaignName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]


class Beat(Form):
    """A sign of life; a device whose machine has changed says how.

    `campaigns`: those of which it remembers something for their next rounds.
    """

    capabilities: forms.Capabilities | None = None
    campaigns: Annotated[list[CampaignName], Field(max_length=64)] = Field(default_factory=list)


class RoundOffered(View):
    """A round that the device may join now, or that it has joined and not served yet."""

    id: str
    phase: str
    campaign_id: str
    number: int
    secure_aggregation: bool
    """Whether updates leave devices under masks only; what counts is the signed assignment."""

    @classmethod
    def of(cls, offer: Offer) -> RoundOffered:
        """A row, as it is shown."""
        round_ = offer.round_
        return cls(
            id=round_.id,
            phase=round_.phase,
            campaign_id=round_.campaign_id,
            number=round_.number,
            secure_aggregation=offer.spec.secure_aggregation,
        )


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
    campaigns_over: dict[str, Any] | None
    """Of those that it has named: no round of them comes any more, or there is none of that name. Signed, as
    assignments are, for this device (context `tg-fl-farewell-v1`); null when none is over."""


class Revoke(ExactForm):
    """Why, in a word that everybody may hear."""

    reason: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")] = "unspecified"


@router.post("/token")
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


@router.post("/{device_id}/heartbeat")
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
    offered = await desk.offers(wait)
    over = desk.farewell(body.campaigns) if body is not None else None
    return _heartbeat(signed_in, endpoint, offered, over)


def _heartbeat(
    signed_in: SignedDevice, endpoint: str, offered: list[Offer], over: dict[str, Any] | None
) -> HeartbeatView:
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
        rounds=[RoundOffered.of(each) for each in offered],
        campaigns_over=over,
    )


@router.post("/{device_id}/revoke")
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
