"""Keys of devices: a device brings new ones, and those whose it is see all that it has had."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tg_workbench.contracts import device_forms as forms
from tg_workbench.contracts.accounts import UNSTORED, utc
from tg_workbench.contracts.providers import (
    DeviceId,
    DeviceKeysRoom,
    DevicesRoom,
    ServerKeysRoom,
    SignedIn,
    SignedInDevice,
    ThePremises,
)
from tg_workbench.contracts.qflare.device_views import KeyView
from tg_workbench.contracts.route import FAILURES, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.views import View
from tg_workbench.federation.devices import DeviceKey, Enrolled, SignedDevice
from tg_workbench.identity import DEVICE

router = APIRouter(prefix="/workbench/v1", route_class=WorkbenchRoute, tags=["Devices"], responses=FAILURES)


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
    key = keys.rotate(signed_in.device, pairs, premises.certificates, by=signed_in.key)
    answer.headers.update(UNSTORED)
    current = server.current()
    return RotatedKeys(
        device_id=device_id,
        quantum_keys=forms.quantum_keys_shown(Enrolled(signed_in.device, key, pairs), current),
        server_keys=forms.server_keys_shown(current),
        **forms.certified(key, premises.certificates.chain_pem),
    )


@router.get("/devices/{device_id}/keys")
async def list_key_history(
    device_id: DeviceId, owner: SignedIn, devices: DevicesRoom, keys: DeviceKeysRoom
) -> VersionList:
    """Every version of a device's keys, the newest first."""
    found = keys.versions(devices.get(owner, device_id).id)
    return VersionList(keys=[_version(key) for key in found])


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
