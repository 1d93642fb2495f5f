"""Whatever a device sends: it is an update of this model, or UpdateInvalid says why not."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tg_workbench.errors import UpdateInvalid
from tg_workbench.federation.updates import (
    MOST_HEADER_BYTES,
    Compression,
    Layout,
    check_head,
    compressed,
    header_length,
    read_update,
)

LAYOUT = Layout.of({"weight": (2, 3), "bias": (2,)})
VECTOR = np.arange(1, 9, dtype=np.float32)
HEADER: dict[str, Any] = {
    "bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
}


def written(header: object, data: bytes = VECTOR.tobytes()) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def changed(**entries: object) -> bytes:
    return written({**HEADER, **entries})


def with_weight(**members: object) -> bytes:
    return changed(weight={**HEADER["weight"], **members})


def pickled(value: object, save: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    save(value, stream)
    return stream.getvalue()


DEEP = b'{"weight":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD = {
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "a pickle": pickle.dumps({"weight": VECTOR}),
    "a torch pickle": pickled({"weight": torch.zeros(2)}, torch.save),
    "a numpy file": pickled(VECTOR, lambda value, stream: np.save(stream, value)),
    "zeros": b"\0" * 100,
    "a header of 2^63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
    "a header past the limit": struct.pack("<Q", MOST_HEADER_BYTES + 1) + b" " * (MOST_HEADER_BYTES + 1),
    "a header past the end": struct.pack("<Q", 500) + b"{}",
    "no JSON": written(b"weights!"),
    "a JSON list": written(b"[1, 2, 3]"),
    "no UTF-8": written(b'{"\xff": 1}'),
    "an empty header": written({}),
    "a header nested deep": written(DEEP),
    "a name twice": written(
        json.dumps(HEADER)[:-1].encode() + b',"bias":' + json.dumps(HEADER["bias"]).encode() + b"}"
    ),
    "a member twice": written(json.dumps(HEADER).replace('"dtype"', '"dtype":"F32","dtype"', 1).encode()),
    "NaN in the header": written(json.dumps(HEADER).replace("[2]", "[NaN]").encode()),
    "huge numbers": written(json.dumps(HEADER).replace("[2]", f"[{'9' * 5000}]").encode()),
    "a parameter less": written({"weight": HEADER["weight"]}),
    "a parameter more": changed(extra={"dtype": "F32", "shape": [1], "data_offsets": [32, 36]}),
    "another name": written({"bias": HEADER["bias"], "wait": HEADER["weight"]}),
    "no description": changed(weight=None),
    "a word for a description": changed(weight="F32"),
    "a member more": with_weight(more=1),
    "a member less": changed(weight={"dtype": "F32", "shape": [2, 3]}),
    "float64": with_weight(dtype="F64"),
    "float16": with_weight(dtype="F16"),
    "int8 that is called none": with_weight(dtype="I8"),
    "a dtype that is no word": with_weight(dtype=["F32"]),
    "turned shape": with_weight(shape=[3, 2]),
    "flat shape": with_weight(shape=[6]),
    "10 GB claimed": with_weight(shape=[2_500_000_000], data_offsets=[8, 10_000_000_008]),
    "10 GB claimed by offsets": with_weight(data_offsets=[8, 10_000_000_008]),
    "negative shape": with_weight(shape=[-2, -3]),
    "shape in floats": with_weight(shape=[2.0, 3.0]),
    "true for one": with_weight(shape=[2, 3, True]),
    "overlapping": with_weight(data_offsets=[0, 24]),
    "a hole": with_weight(data_offsets=[12, 36]),
    "backwards": with_weight(data_offsets=[32, 8]),
    "out of range": with_weight(data_offsets=[8, 36]),
    "negative offsets": with_weight(data_offsets=[-24, 0]),
    "another order": written(
        {
            "weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
            "bias": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]},
        }
    ),
    "short data": written(HEADER, VECTOR.tobytes()[:-1]),
    "long data": written(HEADER, VECTOR.tobytes() + b"\0"),
    "unknown compression": changed(__metadata__={"tg.compression": "zip"}),
    "unknown metadata": changed(__metadata__={"__reduce__": "os.system"}),
    "metadata that are a list": changed(__metadata__=["int8"]),
    "compression that is a list": changed(__metadata__={"tg.compression": ["none"]}),
    "another layout": changed(__metadata__={"tg.layout": "0" * 64}),
    "NaN": written(HEADER, np.where(VECTOR == 3, np.nan, VECTOR).astype(np.float32).tobytes()),
    "infinity": written(HEADER, np.where(VECTOR == 3, -np.inf, VECTOR).astype(np.float32).tobytes()),
    "too long": written(HEADER, (VECTOR * 100).astype(np.float32).tobytes()),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("as_file", [False, True], ids=["bytes", "file"])
def test_what_is_no_update_of_this_model_is_refused(name: str, as_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "update"
    path.write_bytes(BAD[name])
    with pytest.raises(UpdateInvalid) as refused:
        read_update(path if as_file else BAD[name], LAYOUT, most_norm=100.0)
    assert len(refused.value.reason) < 200
    assert not {"wait", "extra", "os.system", "zip"} & set(refused.value.reason.split())


@pytest.mark.parametrize("name", [name for name in BAD if name not in ("NaN", "infinity", "too long")])
def test_the_head_alone_gives_a_bad_update_away(name: str) -> None:
    content = BAD[name]
    with pytest.raises(UpdateInvalid):
        check_head(content[: header_length(content[:8])], len(content), LAYOUT)


def test_claims_of_ten_gigabytes_allocate_nothing() -> None:
    tracemalloc.start()
    for name in ("10 GB claimed", "10 GB claimed by offsets", "a header of 2^63 bytes"):
        with pytest.raises(UpdateInvalid):
            read_update(BAD[name], LAYOUT)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"tg.compression": "none", "tg.layout": LAYOUT.digest}]
)
def test_a_plain_safetensors_file_is_an_update(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "update.safetensors"
    path.write_bytes(safetensors.numpy.save(LAYOUT.arrays(VECTOR), metadata))
    for source in (path, path.read_bytes()):
        update = read_update(source, LAYOUT, most_norm=100.0, weight=7.0)
        assert np.array_equal(update.delta, VECTOR)
        assert (update.weight, update.control) == (7.0, None)


def test_a_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    layout, path = Layout.of({"w": (1_000_000,)}), tmp_path / "update"
    path.write_bytes(compressed(np.ones(1_000_000, np.float32), layout, Compression()).payload)
    tracemalloc.start()
    update = read_update(path, layout)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not update.delta.flags.owndata
    assert peak < 1_000_000


def test_the_norm_may_be_the_bound_and_no_more() -> None:
    content, norm = written(HEADER), math.sqrt(204.0)
    assert read_update(content, LAYOUT, most_norm=norm * (1 + 1e-12)).weight == 1.0
    with pytest.raises(UpdateInvalid, match="longer than the bound"):
        read_update(content, LAYOUT, most_norm=norm * (1 - 1e-6))


@pytest.mark.parametrize("number", [2e12, 3e38])
def test_what_nobody_learns_is_refused_whatever_the_bound(number: float) -> None:
    vector = VECTOR.copy()
    vector[3] = number
    with pytest.raises(UpdateInvalid, match=r"longer than 1e\+12"):
        read_update(compressed(vector, LAYOUT, Compression()).payload, LAYOUT)


def test_a_bound_that_is_no_number_lets_nothing_through() -> None:
    with pytest.raises(UpdateInvalid):
        read_update(written(HEADER), LAYOUT, most_norm=math.nan)


def test_a_control_variate_comes_behind_the_update() -> None:
    both = np.concatenate([VECTOR, VECTOR * 1000])
    content = compressed(both, LAYOUT.with_control(), Compression()).payload
    update = read_update(content, LAYOUT, most_norm=100.0, control=True)
    assert np.array_equal(update.delta, VECTOR)
    assert update.control is not None
    assert np.array_equal(update.control, VECTOR * 1000)
    with pytest.raises(UpdateInvalid):
        read_update(content, LAYOUT)
    with pytest.raises(UpdateInvalid):
        read_update(written(HEADER), LAYOUT, control=True)
    both[-1] = np.nan
    content = content[: -4 * len(both)] + both.tobytes()
    with pytest.raises(UpdateInvalid, match="not finite"):
        read_update(content, LAYOUT, control=True)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(UpdateInvalid):
        read_update(content, LAYOUT)


@given(st.sampled_from(["none", "int8", "top-k"]), st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=500, deadline=None)
def test_a_changed_byte_is_refused_or_still_an_update_of_this_layout(
    kind: Any, place: int, flip: int
) -> None:
    content = bytearray(compressed(VECTOR, LAYOUT, Compression(kind, 0.5)).payload)
    content[place % len(content)] ^= flip
    try:
        update = read_update(bytes(content), LAYOUT, most_norm=1e6)
    except UpdateInvalid:
        return
    assert np.isfinite(update.delta).all()
    assert update.delta.shape == (LAYOUT.size,)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["bias", "weight", "dtype", "shape", "~indices", "__metadata__"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
def test_any_other_json_is_refused(header: object) -> None:
    with pytest.raises(UpdateInvalid):
        read_update(written(header), LAYOUT)


def test_the_length_of_a_head_is_read_from_eight_bytes() -> None:
    content = written(HEADER)
    assert header_length(content[:8]) == len(content) - VECTOR.nbytes
    head = check_head(content[: -VECTOR.nbytes], len(content), LAYOUT)
    assert (head.compression, head.total_bytes) == ("none", len(content))
