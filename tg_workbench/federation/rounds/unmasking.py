"""Unmasking: from the masked vectors of a round and what its devices have said, to the sum and nothing else.

All that was said is gone through again, and checked again, by the protocol's own coordinator; from the same
messages it comes to the same sum, whichever worker does it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from tg_workbench.errors import SecureAggregationRefused, UpdateInvalid
from tg_workbench.federation.rounds.exchange import Exchange
from tg_workbench.federation.updates.secure_aggregation import Coordinator, Parcel, Total

if TYPE_CHECKING:
    from tg_workbench.federation.updates.secure_aggregation.masks import Words


def words_in(payload: bytes, length: int) -> Words:
    """A masked vector of so many words. Raises UpdateInvalid."""
    words = np.frombuffer(payload, dtype="<u4")
    if len(words) != length or len(payload) != words.nbytes:
        raise UpdateInvalid(f"a masked vector has {length:,} words of 32 bits")
    return words.astype(np.uint32, copy=False)


def unmasked(exchange: Exchange, length: int, vectors: Iterable[tuple[str, Words]]) -> Total:
    """The sum of these devices' vectors, which must be those that the exchange has settled.

    Raises TooFewSurvivors when too few shares have come, SecureAggregationRefused for what does not fit.
    """
    coordinator = Coordinator(exchange.round.id, length, exchange.verifying_keys())
    for advertised in exchange.advertisements():
        coordinator.advertise(advertised)
    _require(coordinator.close_advertising() == exchange.roster)
    parcels: dict[str, list[Parcel]] = {}
    for parcel in exchange.parcels():
        parcels.setdefault(parcel.sender, []).append(parcel)
    for sender in sorted(parcels):
        coordinator.take_parcels(sender, parcels[sender])
    coordinator.close_sharing()
    for report in exchange.reports().values():
        coordinator.take_report(report)
    coordinator.close_reporting()
    for device_id, words in vectors:
        coordinator.take_masked(device_id, words)
    _require(coordinator.close_masking() == exchange.survivors)
    for device_id, signature in exchange.agreement.signatures.items():
        coordinator.take_signature(device_id, signature)
    coordinator.close_agreeing()
    for shares in exchange.unmaskings():
        coordinator.take_unmasking(shares)
    return coordinator.finish()


def _require(holds: bool) -> None:
    if not holds:
        raise SecureAggregationRefused("a device's part in the sum was settled otherwise")
