"""QFLARE's /ws/device/{device_id} (S2-30), also under /api/v1: what one device hears of itself.

It signs in as on every channel, with its own token. Being there counts as a sign of life. A device that is
revoked or deregistered hears of it, and is let go with 4403 at once.
"""

from __future__ import annotations

from typing import Any

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from tg_workbench.contracts.broadcasts import Listener
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.qflare.channels import NOT_ALLOWED, Closed, Conversation
from tg_workbench.errors import DeviceNotFound, PermissionDenied
from tg_workbench.federation.devices import Devices, DeviceSignIn
from tg_workbench.identity import Principal
from tg_workbench.observability.announcements import ENDS_A_DEVICE, Announcement
from tg_workbench.storage.database import now


def routes() -> list[BaseRoute]:
    """The channel at its two addresses."""
    return [WebSocketRoute(f"{prefix}/ws/device/{{device_id}}", _listen) for prefix in ("", "/api/v1")]


async def _listen(websocket: WebSocket) -> None:
    premises: Premises = websocket.app.state.premises
    await DeviceConversation(websocket, premises, "device").run()


class DeviceConversation(Conversation):
    """The WebSocket of one device."""

    def identify(self) -> Principal:
        """The device that the path names, and no other; it is seen."""
        principal = super().identify()
        if principal.id != self.websocket.path_params["device_id"]:
            raise PermissionDenied(str(DeviceNotFound()))
        self._see(principal)
        return principal

    async def say(self, one: Announcement | dict[str, Any], listener: Listener) -> None:
        """Say it, and let a device go that has heard of its end."""
        await super().say(one, listener)
        if isinstance(one, Announcement) and one.type in ENDS_A_DEVICE:
            raise Closed(NOT_ALLOWED, "this device was sent away")

    def _see(self, principal: Principal) -> None:
        """Take note of it twice in an interval, and at once when it comes."""
        with self.premises.database.read() as session:
            device = DeviceSignIn(session).again(principal).device
        if device.is_online and now() - (device.last_seen or 0.0) < device.update_interval / 2:
            return
        with self.premises.database.write() as session:
            Devices(session).seen(DeviceSignIn(session).again(principal).device)
