"""A mask is that of its secret and its purpose, looks random, and comes off as it went on."""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from tg_workbench.federation.updates.secure_aggregation import Mask
from tg_workbench.federation.updates.secure_aggregation.masks import PIECE_WORDS

SECRET = bytes(range(32))


def words_of(mask: Mask, length: int) -> np.ndarray:
    vector = np.zeros(length, dtype=np.uint32)
    mask.add_to(vector)
    return vector


@pytest.mark.parametrize(
    "length", [1, 3, 4, 1000, PIECE_WORDS - 1, PIECE_WORDS, PIECE_WORDS + 1, 3 * PIECE_WORDS + 5]
)
def test_a_mask_is_the_key_stream_of_aes_256_in_counter_mode(length: int) -> None:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"purpose").derive(SECRET)
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * length))
    assert words_of(Mask(SECRET, b"purpose"), length).tobytes() == stream


@settings(max_examples=25, deadline=None)
@given(words=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_a_mask_comes_off_as_it_went_on(words: list[int]) -> None:
    vector, mask = np.array(words, dtype=np.uint32), Mask(secrets.token_bytes(32), b"purpose")
    mask.add_to(vector)
    mask.take_from(vector)
    assert vector.tolist() == words


def test_masks_of_another_secret_or_purpose_have_nothing_in_common() -> None:
    masks = [Mask(SECRET, b"a"), Mask(SECRET, b"b"), Mask(bytes(32), b"a"), Mask(SECRET[:-1] + b"\0", b"a")]
    made = [words_of(mask, 1000) for mask in masks]
    shared = [np.count_nonzero(a == b) for n, a in enumerate(made) for b in made[:n]]
    assert max(shared) <= 1


def test_every_bit_of_the_secret_counts() -> None:
    """Where a seed of 256 bits is folded to 32, secrets with the same fold have the same mask."""
    folded = bytes(28) + bytes(a ^ b for a, b in zip(SECRET[28:], _fold(SECRET[:28]), strict=True))
    assert _fold(folded) == _fold(SECRET)
    made = {hashlib.sha256(words_of(Mask(s, b"a"), 100).tobytes()).digest() for s in (folded, SECRET)}
    flipped = [bytes(x ^ (bit == n) for n, x in enumerate(SECRET)) for bit in range(32)]
    made |= {hashlib.sha256(words_of(Mask(s, b"a"), 100).tobytes()).digest() for s in flipped}
    assert len(made) == 34


def _fold(seed: bytes) -> bytes:
    folded = bytes(4)
    for start in range(0, len(seed), 4):
        folded = bytes(a ^ b for a, b in zip(folded, seed[start : start + 4], strict=True))
    return folded


def test_a_masked_vector_looks_random() -> None:
    """Of a million words, each of 256 values of the top byte comes as often as chance would have it."""
    vector = np.zeros(1 << 20, dtype=np.uint32)
    Mask(SECRET, b"purpose").add_to(vector)
    counts = np.bincount(vector >> 24, minlength=256)
    assert np.abs(counts - 4096).max() < 6 * 64


def test_a_secret_is_not_told_by_accident() -> None:
    assert repr(SECRET) not in repr(Mask(SECRET, b"purpose"))
