"""QFLARE's routes for devices and their keys: S2-05 … S2-09, S2-15 and S2-16."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from tg_workbench.contracts import device_forms as forms
from tg_workbench.contracts.accounts import UNSTORED, utc
from tg_workbench.contracts.providers import (
    AnyId,
    AnyOrganization,
    DeviceId,
    DeviceKeysRoom,
    DevicesRoom,
    EnrollmentRoom,
    RoundsRoom,
    ServerKeysRoom,
    SignedIn,
    ThePremises,
)
from tg_workbench.contracts.qflare import device_views as views
from tg_workbench.contracts.qflare.accounts import Page, Pagination, Size
from tg_workbench.contracts.qflare.errors import QFLARE_FAILURES, QflareRoute
from tg_workbench.contracts.route import needs, public
from tg_workbench.contracts.trail import Actor, acts
from tg_workbench.federation.devices import DeviceQuery, DeviceStatus, KeyQuery, KeyStatus

router = APIRouter(prefix="/api/v1", route_class=QflareRoute, tags=["QFLARE"], responses=QFLARE_FAILURES)
Status = Annotated[DeviceStatus | None, Query(description="Only those that are so.")]
KeysSize = Annotated[int, Query(ge=1, le=1000)]


@router.get("/devices")
async def list_devices(
    owner: SignedIn,
    devices: DevicesRoom,
    status: Status = None,
    organization: AnyOrganization = None,
    page: Page = 1,
    size: Size = 20,
) -> views.DeviceList:
    """List all registered devices, the newest first."""
    asked = DeviceQuery(status, organization)
    found, total = devices.list_page(owner, asked, limit=size, offset=(page - 1) * size)
    shown = [views.DeviceView.of(device) for device in found]
    return views.DeviceList(devices=shown, pagination=Pagination.of(page, size, total))


@router.post("/devices/register", status_code=201)
@public
async def register_device(
    body: views.RegisterDevice,
    enrollment: EnrollmentRoom,
    server: ServerKeysRoom,
    premises: ThePremises,
    endpoint: forms.ServerEndpoint,
    answer: Response,
) -> views.RegisteredDevice:
    """Register a new device, with an enrolment token; it is good once."""
    info, offer = body.device_info.as_new(), body.as_offer()
    enrolled = enrollment.register(body.enrollment_token, body.organization_id, info, offer)
    acts(Actor(enrolled.device.organization_id, enrolled.device.id, "device", enrolled.key.thumbprint))
    answer.headers.update(UNSTORED)
    return views.RegisteredDevice(
        device_id=enrolled.device.id,
        quantum_keys=forms.quantum_keys_shown(enrolled, current := server.current()),
        server_keys=forms.server_keys_shown(current),
        config=forms.config_of(enrolled.device, endpoint),
        **forms.certified(enrolled.key, premises.certificates.chain_pem),
    )


@router.get("/devices/{device_id}")
async def get_device(device_id: DeviceId, owner: SignedIn, devices: DevicesRoom) -> views.DeviceView:
    """Get specific device details."""
    return views.DeviceView.of(devices.get(owner, device_id))


@router.put("/devices/{device_id}")
@needs("devices")
async def update_device(
    device_id: DeviceId, body: views.ChangeDevice, owner: SignedIn, devices: DevicesRoom
) -> views.DeviceView:
    """Update device configuration. The device hears of it with its next heartbeat."""
    return views.DeviceView.of(devices.change(devices.get(owner, device_id), body.as_change()))


@router.delete("/devices/{device_id}")
@needs("devices")
async def deregister_device(
    device_id: DeviceId, owner: SignedIn, devices: DevicesRoom, rounds: RoundsRoom
) -> dict[str, str]:
    """Deregister device: its certificate is revoked at once, and it takes part in no round any more."""
    device = devices.get(owner, device_id)
    devices.deregister(device)
    rounds.drop(device)
    return {"device_id": device_id, "status": "deregistered"}


# ----------------------------------------------------------------------------- keys
@router.get("/security/keys")
async def list_keys(
    owner: SignedIn,
    keys: DeviceKeysRoom,
    server: ServerKeysRoom,
    device_id: AnyId = None,
    status: KeyStatus | None = None,
    page: Page = 1,
    size: KeysSize = 100,
) -> views.KeyList:
    """List quantum keys status, the newest first: every version of every device's."""
    asked = KeyQuery(device_id, status)
    found, total = keys.list_page(owner, asked, limit=size, offset=(page - 1) * size)
    newest = server.newest()
    return views.KeyList(
        keys=[views.KeyView.of(key) for key in found],
        rotation_schedule=views.RotationSchedule.of(keys.next_rotation(owner), server.next_rotation()),
        server_key_version=None if newest is None else newest.version,
        pagination=Pagination.of(page, size, total),
    )


@router.post("/security/keys/rotate")
@needs("admin")
async def rotate_keys(
    owner: SignedIn, keys: DeviceKeysRoom, server: ServerKeysRoom, body: views.RotateKeys | None = None
) -> views.RotationForced:
    """Force key rotation, of one device or of all. Old keys stay good for `grace_hours`.

    The operator, who means all, changes the server's own keys as well.
    """
    asked = body or views.RotateKeys()
    forced = keys.force(owner, asked.device_id, asked.grace_hours * 3600)
    changed = server.rotate() if owner.is_operator and asked.device_id is None else None
    return views.RotationForced(
        devices=forced.devices,
        deadline=utc(forced.deadline),
        server_key_version=None if changed is None else changed.version,
    )
