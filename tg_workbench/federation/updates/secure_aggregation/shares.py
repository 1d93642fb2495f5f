"""Shamir's shares (1979) of secrets of 32 bytes, over the integers modulo the first prime beyond 2^256.

So many shares as the threshold give the secret; one fewer say nothing about it. A share has 33 bytes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from tg_workbench.errors import SecureAggregationRefused

SECRET_BYTES, SHARE_BYTES = 32, 33
PRIME = 2**256 + 297


def split(secret: bytes, holders: int, threshold: int) -> list[bytes]:
    """A share for each holder; that at index `n` has the place `n + 1`."""
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= holders:
        raise ValueError("a secret has 32 bytes, and no more shares are needed than there are holders")
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    return [_value_at(coefficients, place).to_bytes(SHARE_BYTES, "big") for place in range(1, holders + 1)]


def join(shares: Mapping[int, bytes]) -> bytes:
    """The secret of which these are shares, by their places; there must be as many as the threshold.

    Raises SecureAggregationRefused for shares that cannot be right; others give a secret that is none.
    """
    values = {place: int.from_bytes(share, "big") for place, share in shares.items()}
    sizes = {len(share) for share in shares.values()}
    if sizes != {SHARE_BYTES} or min(values) < 1 or max(values.values()) >= PRIME:
        raise SecureAggregationRefused("a share is not of the right size")
    secret = sum(value * _weight(place, values) for place, value in values.items()) % PRIME
    if secret >= 2 ** (8 * SECRET_BYTES):
        raise SecureAggregationRefused("the shares do not belong together")
    return secret.to_bytes(SECRET_BYTES, "big")


def _value_at(coefficients: list[int], place: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * place + coefficient) % PRIME
    return value


def _weight(place: int, places: Mapping[int, int]) -> int:
    """Lagrange's weight of a place, at zero."""
    above, below = 1, 1
    for other in places:
        if other != place:
            above = above * other % PRIME
            below = below * (other - place) % PRIME
    return above * pow(below, -1, PRIME) % PRIME
