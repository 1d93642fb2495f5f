"""An update sealed and opened: 100 MB through envelopes, and what its signatures and keys cost.

The peer is what no envelope can do without: SHA-256 of the same bytes, and AES-256-GCM of them in pieces of
the same size (in one piece it takes longer: the memory has to come from the system), in the same run. Seconds
are those of the processor, for nothing here waits or runs beside itself.
"""

from __future__ import annotations

import hashlib
import secrets
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tg_workbench.crypto.envelopes import CHUNK_BYTES, open_payload, read_head, seal
from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.crypto.manifests import Claim
from tg_workbench.crypto.signatures import SigningKey

SIZE, REPEATS = 100_000_000, 5
SEALING, OPENING = 0.25, 0.35
Row = dict[str, Any]


def main(*, size: int = SIZE, repeats: int = REPEATS) -> list[Row]:
    """Measure, and return the rows: seconds."""
    device, key = SigningKey.generate(), OpeningKey.generate()
    payload, cipher = secrets.token_bytes(size), AESGCM(secrets.token_bytes(32))
    claim = Claim(**dict.fromkeys(_NAMES, "1"), sample_count=1)  # type: ignore[arg-type]
    envelope = b"".join(seal(claim, payload, device, key.public))
    pieces = [payload[start : start + CHUNK_BYTES] for start in range(0, size, CHUNK_BYTES)]
    bare = [cipher.encrypt(bytes(12), piece, None) for piece in pieces]

    def sealing() -> None:
        for _ in seal(claim, payload, device, key.public):
            pass

    def opening() -> None:
        stream = BytesIO(envelope)
        for _ in open_payload(read_head(stream).verify(device.public), stream, key):
            pass

    def bare_sealing() -> None:
        hashlib.sha256(payload).digest()
        for piece in pieces:
            cipher.encrypt(bytes(12), piece, None)

    def bare_opening() -> None:
        for piece in bare:
            cipher.decrypt(bytes(12), piece, None)
        hashlib.sha256(payload).digest()

    sealed, bare_sealed, opened, bare_opened = _medians(
        [sealing, bare_sealing, opening, bare_opening], repeats
    )
    small = b"".join(seal(claim, payload[:10_000], device, key.public))
    return [
        _row(f"seal {size // 10**6} MB, seconds", sealed, bare_sealed, SEALING),
        _row(f"open {size // 10**6} MB, seconds", opened, bare_opened, OPENING),
        {"case": "bytes more than the payload, of 10 kB", "value": len(small) - 10_000},
        {"case": "bytes more than the payload, of 100 MB", "value": len(envelope) - size},
    ]


_NAMES = ("organization_id", "device_id", "round_id", "model_version", "key_version")


def _row(case: str, ours: float, peer: float, most: float) -> Row:
    return {
        "case": case,
        "ours": ours,
        "peer": peer,
        "peer_name": "SHA-256 and AES-256-GCM alone",
        "ratio": ours / peer,
        "target": f"at most {most} s",
        "met": ours <= most,
    }


def _medians(calls: list[Callable[[], None]], repeats: int) -> list[float]:
    """Seconds of the processor; every repeat makes each call once, in turn."""
    took: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, times in zip(calls, took, strict=True):
            began = time.process_time()
            call()
            times.append(time.process_time() - began)
    return [statistics.median(times) for times in took]
