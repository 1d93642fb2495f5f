"""Masks of secure aggregation, beside Flower's pseudo-random generator, and a whole round.

Flower's generator is written out here by its published formula: the seed of 32 bytes is folded by XOR to 32
bits, which seed NumPy's Mersenne Twister. Ours takes all 256 bits. Both end as words added to a vector.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.federation.updates.secure_aggregation import Coordinator, Mask, Participant

WORDS, REPEATS, DEVICES, DROPPED = 10_000_000, 5, 10, 2
Row = dict[str, Any]


def main(*, words: int = WORDS, repeats: int = REPEATS) -> list[Row]:
    """Measure, and return the rows."""
    vector, seed = np.zeros(words, dtype=np.uint32), secrets.token_bytes(32)
    ours: list[float] = []
    peer: list[float] = []
    for _ in range(repeats):
        ours.append(_seconds(lambda: Mask(seed, b"bench").add_to(vector)))
        peer.append(_seconds(lambda: _add_flowers(seed, vector)))
    ours_rate, peer_rate = (4e-9 * words / statistics.median(took) for took in (ours, peer))
    masking, finishing, devices = _round(words // 10)
    return [
        {
            "case": f"a mask on {words // 10**6} million words, GB/s",
            "ours": ours_rate,
            "peer": peer_rate,
            "peer_name": "Flower's generator, 32 bits of seed",
            "ratio": ours_rate / peer_rate,
            "target": "faster than Flower's",
            "met": ours_rate > peer_rate,
        },
        {"case": f"a device of {DEVICES} masks {words // 10**7} million words, seconds", "value": masking},
        {"case": f"its keys, shares and signatures, seconds, {DEVICES} devices", "value": devices},
        {"case": f"the server takes {DEVICES} masks off, {DROPPED} dropped, seconds", "value": finishing},
    ]


def _add_flowers(seed: bytes, vector: Any) -> None:
    folded = 0
    for start in range(0, len(seed), 4):
        folded ^= int.from_bytes(seed[start : start + 4], "little")
    drawn = np.random.RandomState(folded).randint(0, 2**32 - 1, len(vector), dtype=np.int64)
    np.add(vector, drawn, out=vector, casting="unsafe")


def _round(words: int) -> tuple[float, float, float]:
    """Seconds: masking by one device, taking all masks off, and all that devices do before they mask."""
    signers = {f"dev_{n}": SigningKey.generate() for n in range(DEVICES)}
    keys = {name: key.public for name, key in signers.items()}
    server = Coordinator("round", words, keys)
    devices = {name: Participant("round", name, key, keys) for name, key in signers.items()}
    began = time.perf_counter()
    for device in devices.values():
        server.advertise(device.advertise())
    roster = server.close_advertising()
    for name, device in devices.items():
        server.take_parcels(name, device.share(roster, server.neighbours_of(name)))
    preparing = time.perf_counter() - began
    server.close_sharing()
    for name, device in devices.items():
        server.take_report(device.report(server.parcels_for(name)))
    server.close_reporting()
    masking = []
    for name, device in list(devices.items())[DROPPED:]:
        vector = np.ones(words, dtype=np.uint32)
        began = time.perf_counter()
        masked = device.mask(vector)
        masking.append(time.perf_counter() - began)
        server.take_masked(name, masked)
    survivors = server.close_masking()
    for name in survivors.device_ids:
        server.take_signature(name, devices[name].agree(survivors))
    agreement = server.close_agreeing()
    for name in survivors.device_ids:
        server.take_unmasking(devices[name].unmask(agreement))
    began = time.perf_counter()
    total = server.finish()
    finishing = time.perf_counter() - began
    if not (total.words == DEVICES - DROPPED).all():
        raise RuntimeError("the sum is wrong")
    return statistics.median(masking), finishing, preparing


def _seconds(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
