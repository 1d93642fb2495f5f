"""What a device signs to sign in: that it is this device, now, and for this one time."""

from __future__ import annotations

CONTEXT = b"tg-device-token-v1"
"""The signature's context: what was signed for something else does not sign in."""
WINDOW_SECONDS = 300
"""How far a device's clock may be from the server's."""


def assertion(device_id: str, timestamp: int, nonce: str) -> bytes:
    """The message: `timestamp` in seconds since 1970, and a `nonce` that the device has never used before."""
    return "\n".join((device_id, str(timestamp), nonce)).encode("ascii")
