"""Sealed bytes open under their own key and context, and under nothing else."""

from __future__ import annotations

import pytest

from tg_workbench.crypto import new_key, open_sealed, seal
from tg_workbench.errors import SealBroken


def test_what_was_sealed_opens_again() -> None:
    key = new_key()
    sealed = seal(key, b"weights", b"artifact|tenant")
    assert open_sealed(key, sealed, b"artifact|tenant") == b"weights"


@pytest.mark.parametrize("position", [0, 11, 12, 18, -1])
def test_one_changed_bit_breaks_the_seal(position: int) -> None:
    key = new_key()
    sealed = bytearray(seal(key, b"weights", b""))
    sealed[position] ^= 1
    with pytest.raises(SealBroken):
        open_sealed(key, bytes(sealed), b"")


def test_another_key_or_context_does_not_open_it() -> None:
    key = new_key()
    sealed = seal(key, b"weights", b"alice")
    for other_key, context in [(new_key(), b"alice"), (key, b"bob")]:
        with pytest.raises(SealBroken):
            open_sealed(other_key, sealed, context)


@pytest.mark.parametrize("length", [0, 1, 12, 27])
def test_bytes_too_short_to_be_sealed_are_refused(length: int) -> None:
    with pytest.raises(SealBroken):
        open_sealed(new_key(), bytes(length), b"")


def test_two_seals_of_one_text_differ() -> None:
    key = new_key()
    assert seal(key, b"weights", b"") != seal(key, b"weights", b"")
