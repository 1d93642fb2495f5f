"""As many shares as the threshold give the secret, whichever they are; fewer say nothing of it."""

from __future__ import annotations

import secrets
from contextlib import suppress
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tg_workbench.errors import SecureAggregationRefused
from tg_workbench.federation.updates.secure_aggregation.shares import PRIME, SHARE_BYTES, join, split


def placed(shares: list[bytes], places: tuple[int, ...]) -> dict[int, bytes]:
    return {place: shares[place - 1] for place in places}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), secret=st.binary(min_size=32, max_size=32), holders=st.integers(1, 40))
def test_any_so_many_shares_give_the_secret(data: st.DataObject, secret: bytes, holders: int) -> None:
    needed = data.draw(st.integers(1, holders))
    places = data.draw(st.permutations(range(1, holders + 1)))[: data.draw(st.integers(needed, holders))]
    assert join(placed(split(secret, holders, needed), tuple(places))) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(31) + b"\1"], ids=["zero", "most", "one"])
def test_the_ends_of_the_range_survive(secret: bytes) -> None:
    shares = split(secret, 5, 3)
    assert all(join(placed(shares, places)) == secret for places in combinations(range(1, 6), 3))


def test_shares_have_one_size_whatever_the_secret() -> None:
    for secret in (bytes(32), b"\xff" * 32):
        assert {len(share) for share in split(secret, 100, 67)} == {SHARE_BYTES}


def test_fewer_shares_fit_every_secret() -> None:
    """With one share too few there is, for any secret one may think of, one last share that gives it."""
    secret, other = secrets.token_bytes(32), secrets.token_bytes(32)
    known = placed(split(secret, 5, 3), (1, 2))
    last = _share_that_gives(other, known, 3)
    assert join({**known, 3: last}) == other


def _share_that_gives(secret: bytes, known: dict[int, bytes], place: int) -> bytes:
    """The third point of the parabola through the secret at zero and two shares."""
    points = {0: int.from_bytes(secret, "big"), **{at: int.from_bytes(v, "big") for at, v in known.items()}}
    value = 0
    for at, height in points.items():
        above, below = 1, 1
        for other in points:
            if other != at:
                above, below = above * (place - other) % PRIME, below * (at - other) % PRIME
        value += height * above * pow(below, -1, PRIME)
    return (value % PRIME).to_bytes(SHARE_BYTES, "big")


def test_two_splits_of_one_secret_differ() -> None:
    assert split(bytes(32), 3, 2) != split(bytes(32), 3, 2)


def test_a_wrong_share_does_not_give_the_secret() -> None:
    secret = secrets.token_bytes(32)
    shares = placed(split(secret, 5, 3), (1, 2, 3))
    shares[2] = shares[2][:-1] + bytes([shares[2][-1] ^ 1])
    with suppress(SecureAggregationRefused):
        assert join(shares) != secret


@pytest.mark.parametrize(
    "shares",
    [
        {1: b""},
        {1: bytes(32)},
        {1: bytes(34)},
        {1: b"\xff" * 33},
        {1: PRIME.to_bytes(33, "big")},
        {0: bytes(33)},
        {-1: bytes(33)},
        {1: bytes(33), 2: bytes(32)},
        {1: (2**256).to_bytes(33, "big")},
        {},
    ],
    ids=["none", "short", "long", "huge", "prime", "at 0", "below 0", "mixed", "no secret", "no shares"],
)
def test_what_is_no_share_is_refused(shares: dict[int, bytes]) -> None:
    with pytest.raises(SecureAggregationRefused):
        join(shares)


@pytest.mark.parametrize(("length", "holders", "needed"), [(31, 3, 2), (33, 3, 2), (32, 3, 4), (32, 3, 0)])
def test_what_cannot_be_split_is_refused(length: int, holders: int, needed: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        split(bytes(length), holders, needed)


def test_the_modulus_is_a_prime() -> None:
    """Miller and Rabin: 40 random bases leave one chance in 2^80."""
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(40):
        power = pow(secrets.randbelow(PRIME - 3) + 2, odd, PRIME)
        squares = [pow(power, 2**n, PRIME) for n in range(twos)]
        assert power == 1 or PRIME - 1 in squares
