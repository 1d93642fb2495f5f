"""What is signed or sealed is bound to words that devices and the server must say alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

ASSIGNMENT_CONTEXT = b"tg-fl-assignment-v1"
RECEIPT_CONTEXT = b"tg-fl-receipt-v1"
SERVER_KEY_CONTEXT = b"tg-fl-server-key-v1"
FAREWELL_CONTEXT = b"tg-fl-farewell-v1"


def canonical(told: Mapping[str, Any]) -> bytes:
    """JSON in one spelling, to be signed: sorted members, no blanks, ASCII. Raises ValueError for NaN."""
    return json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def endorsed(key_version: str, signing_key: bytes) -> bytes:
    """What one version of the server's signing key signs, so that devices believe the next."""
    return f"{key_version}|".encode() + signing_key


def model_key_info(organization_id: str, round_id: str, device_id: str) -> bytes:
    """What the key of a round's model is sealed for: this round and this device, and no other."""
    return f"tg/fl/model-key/v1|{organization_id}|{round_id}|{device_id}".encode()


def download_context(round_id: str) -> bytes:
    """What a round's model is bound to, as the file that devices fetch."""
    return f"tg/fl/model/v1|{round_id}".encode()
