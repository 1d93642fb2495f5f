"""A device's credential: a token for an hour, got by a signature, and got anew before it ends."""

from __future__ import annotations

import base64
import secrets
import threading
import time

from tg_workbench.crypto.assertions import CONTEXT, assertion
from tg_workbench.device.folder import Identity
from tg_workbench.sdk.connection import Body, Call, Connection, error_of, object_in

TOKEN = "/workbench/v1/devices/token"  # noqa: S105  (an address)
EARLY_SECONDS = 120.0


class DeviceCredential:
    """Signs a device in, as often as it must be. Safe to share between threads."""

    def __init__(self, connection: Connection, identity: Identity) -> None:
        self._connection = connection
        self._identity = identity
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def token(self) -> str:
        """A token that is good for a while. Raises Unauthenticated, DeviceRevoked, WireBroken."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._sign_in()
            return self._token

    def renew(self, refused: str) -> None:
        """Another token, unless some other thread has got one. Raises as `token`."""
        with self._lock:
            if self._token == refused:
                self._sign_in()

    def _sign_in(self) -> None:
        identity, moment, nonce = self._identity, int(time.time()), secrets.token_hex(16)
        message = assertion(identity.device_id, moment, nonce)
        shown = {
            "device_id": identity.device_id,
            "timestamp": moment,
            "nonce": nonce,
            "signature": base64.b64encode(identity.signing_key.sign(message, CONTEXT)).decode("ascii"),
        }
        answer = self._connection.answer(Call("POST", TOKEN, body=Body.of_json(shown), is_anonymous=True))
        if answer.status_code >= 300:
            raise error_of(answer)
        told = object_in(answer)
        self._token = str(told["access_token"])
        lifetime = float(told["expires_in"])
        self._until = time.monotonic() + lifetime - min(EARLY_SECONDS, lifetime / 10)
