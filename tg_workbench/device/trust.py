"""Trust: whom a device believes. It was told a key of the server's when it enrolled, and follows no other.

A newer key counts if the one before it has signed it, and so on from the one that the device knows. So
whoever comes in between with a key of their own is not believed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tg_workbench.crypto.signatures import VerifyingKey
from tg_workbench.device.folder import DeviceFolder, Identity
from tg_workbench.errors import AssignmentInvalid, QuantumKeyInvalid
from tg_workbench.federation.updates.bindings import SERVER_KEY_CONTEXT, canonical, endorsed
from tg_workbench.sdk.connection import Connection

SERVER_KEYS = "/workbench/v1/federation/server-keys"
Told = Mapping[str, Any]


class Trust:
    """What a device believes of what it is told."""

    def __init__(self, connection: Connection, folder: DeviceFolder, identity: Identity) -> None:
        self._connection = connection
        self._folder = folder
        self.identity = identity

    def require_signed(self, told: Told, context: bytes, expected: Told, otherwise: str) -> None:
        """Raises AssignmentInvalid for what the workbench that the device was enrolled with has not signed.

        And, with the words `otherwise`, for what it has signed of something else than `expected`. Signed by a
        key that is not known here, the workbench is asked for what leads to it.
        """
        if not self._is_signed(told, context):
            raise AssignmentInvalid("the workbench that this device was enrolled with has not signed it")
        if any(told.get(name) != value for name, value in expected.items()):
            raise AssignmentInvalid(otherwise)

    def _is_signed(self, told: Told, context: bytes) -> bool:
        if self._holds(told, context):
            return True
        if told.get("key_version") == self.identity.server_key_version:
            return False
        self._follow()
        return self._holds(told, context)

    def _holds(self, told: Told, context: bytes) -> bool:
        rest = {name: value for name, value in told.items() if name != "signature"}
        try:
            signature = base64.b64decode(told["signature"], validate=True)
            return self.identity.server_key.verifies(signature, canonical(rest), context)
        except (KeyError, TypeError, ValueError):
            return False

    def _follow(self) -> None:
        """Go from the key that is known to the newest that it leads to, and remember that one."""
        answer = self._connection.get(SERVER_KEYS, {"after": self.identity.server_key_version})
        found = self.identity
        for told in answer.get("server_keys", ()):
            try:
                raw = base64.b64decode(told["signing_key"], validate=True)
                signature = base64.b64decode(told["endorsement"] or "", validate=True)
                message = endorsed(told["key_version"], raw)
                if not found.server_key.verifies(signature, message, SERVER_KEY_CONTEXT):
                    break
                key = VerifyingKey.from_bytes(raw)
            except (KeyError, TypeError, ValueError, QuantumKeyInvalid):
                break
            found = replace(found, server_key=key, server_key_version=told["key_version"])
        if found is not self.identity:
            self._folder.write(found)
            self.identity = found
