"""What is left out of an update is kept for the next; what is claimed of it is checked."""

from __future__ import annotations

import json
import struct
from typing import Any, Literal

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tg_workbench.errors import InvalidField, UpdateInvalid
from tg_workbench.federation.strategies import Vector
from tg_workbench.federation.updates import Compression, Layout, compressed, read_update

LAYOUT = Layout.of({"a": (5,), "b": (2, 3), "c": ()})
KINDS: list[Literal["none", "int8", "top-k"]] = ["none", "int8", "top-k"]
VECTORS = arrays.arrays(np.float32, LAYOUT.size, elements=st.floats(-(2.0**37), 2.0**37, width=32))
"""Up to what all of them together may be."""
TAME = arrays.arrays(np.float32, LAYOUT.size, elements=st.floats(-1024, 1024, width=32))


def decoded(payload: bytes, layout: Layout = LAYOUT) -> Vector:
    return read_update(payload, layout).delta


def scales(vector: Vector) -> NDArray[np.float64]:
    """s of each number, by the tensor it lies in."""
    each = np.empty(len(vector), np.float64)
    for span in LAYOUT.spans.values():
        each[span] = np.abs(vector[span].astype(np.float64)).max() / 127
    return each


@given(VECTORS)
def test_no_compression_loses_nothing(vector: Vector) -> None:
    sent = compressed(vector, LAYOUT, Compression())
    assert decoded(sent.payload).tobytes() == vector.tobytes()
    assert sent.residual is None


@given(VECTORS)
def test_int8_to_the_nearest_is_off_by_half_a_step_at_most(vector: Vector) -> None:
    sent = compressed(vector, LAYOUT, Compression("int8"))
    error = np.abs(decoded(sent.payload).astype(np.float64) - vector)
    slack = 1e-6 * np.abs(vector.astype(np.float64)) + 127 * np.finfo(np.float32).tiny
    assert (error <= scales(vector) * 0.5001 + slack).all()


@given(VECTORS, st.integers(0, 1000))
def test_int8_by_chance_is_off_by_less_than_a_step(vector: Vector, seed: int) -> None:
    sent = compressed(vector, LAYOUT, Compression("int8"), by_chance=np.random.default_rng(seed))
    error = np.abs(decoded(sent.payload).astype(np.float64) - vector)
    slack = 1e-6 * np.abs(vector.astype(np.float64)) + 127 * np.finfo(np.float32).tiny
    assert (error <= scales(vector) * 1.0001 + slack).all()


def test_int8_by_chance_is_right_on_average() -> None:
    rng, vector = np.random.default_rng(0), np.linspace(-1, 1, LAYOUT.size).astype(np.float32)
    draws = [
        decoded(compressed(vector, LAYOUT, Compression("int8"), by_chance=rng).payload) for _ in range(4000)
    ]
    assert np.abs(np.mean(draws, axis=0) - vector).max() < 4 * 0.5 / 127 / np.sqrt(4000)


@given(TAME, st.floats(0.01, 1.0))
def test_top_k_keeps_the_largest_as_they_are(vector: Vector, keep: float) -> None:
    compression = Compression("top-k", keep)
    found = decoded(compressed(vector, LAYOUT, compression).payload)
    kept = np.flatnonzero(found)
    assert np.array_equal(found[kept], vector[kept])
    assert len(kept) <= compression.kept(LAYOUT.size)
    left = np.delete(np.abs(vector), kept)
    assert not len(kept) or not len(left) or left.max() <= np.abs(vector[kept]).min()


@given(TAME, TAME, st.sampled_from(["int8", "top-k"]))
def test_what_is_sent_and_what_is_left_are_the_update_and_the_last_residual(
    vector: Vector, before: Vector, kind: Any
) -> None:
    sent = compressed(vector, LAYOUT, Compression(kind, 0.3), before)
    assert sent.residual is not None
    np.testing.assert_allclose(decoded(sent.payload) + sent.residual, vector + before, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("kind", ["int8", "top-k"])
def test_with_error_feedback_what_arrives_adds_up_to_what_was_meant(kind: Any) -> None:
    rng, residual = np.random.default_rng(0), None
    meant, arrived = np.zeros(LAYOUT.size), np.zeros(LAYOUT.size)
    furthest = 0.0
    for _ in range(200):
        vector = rng.normal(1.0, 0.5, LAYOUT.size).astype(np.float32)
        sent = compressed(vector, LAYOUT, Compression(kind, 0.25), residual)
        residual = sent.residual
        meant, arrived = meant + vector, arrived + decoded(sent.payload)
        furthest = max(furthest, float(np.abs(meant - arrived).max()))
    assert furthest < 12.0
    assert np.abs(meant - arrived).max() / meant.max() < 0.06


def test_without_the_residual_top_k_would_never_arrive() -> None:
    vector, compression = np.arange(1, LAYOUT.size + 1, dtype=np.float32), Compression("top-k", 0.25)
    arrived = sum(decoded(compressed(vector, LAYOUT, compression).payload) for _ in range(50))
    assert np.asarray(arrived)[0] == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_what_travels_is_a_safetensors_file(kind: Any) -> None:
    vector = np.random.default_rng(0).normal(size=LAYOUT.size).astype(np.float32)
    payload = compressed(vector, LAYOUT, Compression(kind, 0.5)).payload
    tensors = safetensors.numpy.load(payload)
    again = safetensors.numpy.save(tensors, {"tg.compression": kind})
    assert np.array_equal(decoded(again), decoded(payload))


def test_int8_takes_a_quarter_of_the_bytes_and_top_k_eight_for_each() -> None:
    layout = Layout.of({"w": (100_000,)})
    vector = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    sizes = {kind: len(compressed(vector, layout, Compression(kind, 0.01)).payload) for kind in KINDS}
    assert sizes["none"] - 400_000 < 300
    assert sizes["int8"] - 100_004 < 400
    assert sizes["top-k"] - 8_000 < 300


def top_k(places: list[int], values: list[float], kept: int | None = None) -> bytes:
    count = len(places) if kept is None else kept
    header = {
        "__metadata__": {"tg.compression": "top-k"},
        "~values": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]},
        "~indices": {"dtype": "U32", "shape": [count], "data_offsets": [4 * count, 8 * count]},
    }
    text = json.dumps(header).encode()
    data = np.array(values, np.float32).tobytes() + np.array(places, np.uint32).tobytes()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("places", "values", "kept"),
    [
        ([3, 3], [1.0, 2.0], None),
        ([4, 3], [1.0, 2.0], None),
        ([3, LAYOUT.size], [1.0, 2.0], None),
        ([3, 2**32 - 1], [1.0, 2.0], None),
        ([], [], None),
        (list(range(13)), [1.0] * 13, None),
        ([3, 4], [1.0, 2.0], 10**9),
        ([3, 4], [1.0, 2.0], -2),
        ([3, 4], [1.0, float("nan")], None),
    ],
)
def test_places_that_are_none_are_refused(places: list[int], values: list[float], kept: int | None) -> None:
    with pytest.raises(UpdateInvalid):
        decoded(top_k(places, values, kept))
    assert decoded(top_k([3, 4], [1.0, 2.0])).tolist() == [0, 0, 0, 1, 2, *[0] * 7]


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), 1e38])
def test_scales_that_are_none_are_refused(scale: float) -> None:
    payload = compressed(np.ones(LAYOUT.size, np.float32), LAYOUT, Compression("int8")).payload
    at = len(payload) - LAYOUT.size - 12
    broken = payload[:at] + struct.pack("<f", scale) + payload[at + 4 :]
    with pytest.raises(UpdateInvalid), np.errstate(over="ignore"):
        decoded(broken)


def test_the_one_int8_without_a_counterpart_is_refused() -> None:
    payload = compressed(np.ones(LAYOUT.size, np.float32), LAYOUT, Compression("int8")).payload
    with pytest.raises(UpdateInvalid, match="-127 to 127"):
        decoded(payload[:-1] + b"\x80")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "wrong",
    [np.full(12, np.nan, np.float32), np.zeros(11, np.float32), np.zeros(12)],
    ids=["NaN", "short", "float64"],
)
def test_what_is_no_update_is_not_sent(kind: Any, wrong: Vector) -> None:
    with pytest.raises(InvalidField):
        compressed(wrong, LAYOUT, Compression(kind))


@pytest.mark.parametrize("facts", [{"kind": "zip"}, {"keep": 0.0}, {"keep": 1.1}, {"keep": float("nan")}])
def test_a_compression_there_is_not_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        Compression(**facts)


def test_top_k_never_drops_a_control_variate() -> None:
    layout = LAYOUT.with_control()
    both = np.ones(layout.size, np.float32)
    with pytest.raises(InvalidField, match="SCAFFOLD"):
        compressed(both, layout, Compression("top-k"))
    assert np.allclose(decoded(compressed(both, layout, Compression("int8")).payload, layout), 1.0)


@given(VECTORS)
@settings(max_examples=50)
def test_the_same_vector_is_sent_in_the_same_bytes(vector: Vector) -> None:
    for kind in KINDS:
        one, other = (compressed(vector, LAYOUT, Compression(kind, 0.5)).payload for _ in range(2))
        assert one == other
