"""Sealed bytes open under their own key and context, and under nothing else."""

from __future__ import annotations

import io
import os

import pytest

from tg_workbench.crypto import new_key, open_pieces, open_sealed, seal, seal_pieces
from tg_workbench.crypto.sealing import IN_SEGMENTS, SALT_BYTES, SEGMENT_BYTES, TAG_BYTES
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


# ----------------------------------------------------------------------------- in segments
def in_segments(key: bytes, plain: bytes, context: bytes = b"model") -> bytes:
    half = len(plain) // 2
    return b"".join(seal_pieces(key, (plain[:half], b"", plain[half:]), context))


def out_of(key: bytes, sealed: bytes, context: bytes = b"model") -> bytes:
    return b"".join(open_pieces(key, io.BytesIO(sealed), context))


@pytest.mark.parametrize(
    "length",
    [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES, 5 * SEGMENT_BYTES // 2],
)
def test_what_is_sealed_in_segments_comes_back(length: int) -> None:
    key, plain = new_key(), os.urandom(length)
    sealed = in_segments(key, plain)
    assert out_of(key, sealed) == plain
    assert in_segments(key, plain) != sealed


def test_segments_open_one_at_a_time() -> None:
    key = new_key()
    sealed = in_segments(key, bytes(4 * SEGMENT_BYTES))
    pieces = open_pieces(key, io.BytesIO(sealed), b"model")
    assert [len(piece) for piece in pieces] == [SEGMENT_BYTES] * 4


def test_what_was_sealed_whole_opens_in_one_piece() -> None:
    key = new_key()
    assert out_of(key, seal(key, b"weights", b"model")) == b"weights"


def test_segments_that_are_missing_swapped_repeated_or_edited_are_noticed() -> None:
    key = new_key()
    sealed = in_segments(key, os.urandom(3 * SEGMENT_BYTES + 5))
    head, size = len(IN_SEGMENTS) + SALT_BYTES, SEGMENT_BYTES + TAG_BYTES
    start, parts = sealed[:head], [sealed[at : at + size] for at in range(head, len(sealed), size)]
    edited = bytearray(sealed)
    edited[head + size] ^= 1
    for broken in (
        start + b"".join(parts[:-1]),  # the end is missing
        start + b"".join(parts[1:]),
        start + parts[1] + parts[0] + b"".join(parts[2:]),
        start + parts[0] * 2 + b"".join(parts[1:]),
        sealed + parts[-1],
        sealed[:-1],
        start,
        sealed[: head - 1],
        b"",
        bytes(edited),
        sealed.replace(IN_SEGMENTS, IN_SEGMENTS.lower()),
    ):
        with pytest.raises(SealBroken):
            out_of(key, broken)


def test_segments_open_with_their_key_and_context_only() -> None:
    key = new_key()
    sealed = in_segments(key, b"weights")
    for other, context in ((new_key(), b"model"), (key, b"another")):
        with pytest.raises(SealBroken):
            out_of(other, sealed, context)
