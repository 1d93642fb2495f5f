"""Bytes leave in pieces: names get their prefix, archives open, whatever the pieces were."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
import safetensors.numpy

from tg_workbench.errors import SealBroken
from tg_workbench.models.exports import prefixed, zipped

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.weight": np.ones(5, dtype=np.float32)}


def cut(content: bytes, size: int) -> Iterator[bytes]:
    yield from (content[start : start + size] for start in range(0, len(content), size))


@pytest.mark.parametrize("size", [1, 7, 8, 9, 64, 10_000])
def test_names_get_a_prefix_and_nothing_else_changes(size: int) -> None:
    written = safetensors.numpy.save(TENSORS, {"made": "here"})
    found = safetensors.numpy.load(b"".join(prefixed(cut(written, size), "base.")))
    assert found.keys() == {f"base.{name}" for name in TENSORS}
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[f"base.{name}"], tensor)


@pytest.mark.parametrize(
    "content", [b"", b"short", b"\xff" * 16, b"\4" + bytes(7) + b"junk", safetensors.numpy.save(TENSORS)[:20]]
)
def test_bytes_that_are_no_tensors_are_not_passed_on(content: bytes) -> None:
    with pytest.raises(SealBroken):
        b"".join(prefixed([content], "base."))


def test_an_archive_is_written_as_it_is_read() -> None:
    asked = 0

    def pieces() -> Iterator[bytes]:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield bytes(1000)

    archive = zipped([("small", [b"x"]), ("large", pieces())])
    assert sum(len(next(archive)) for _ in range(10)) > 9_000
    assert asked <= 10
    with zipfile.ZipFile(io.BytesIO(b"".join(zipped([("small", [b"x"]), ("large", pieces())])))) as whole:
        assert whole.testzip() is None
        assert (whole.read("small"), whole.read("large")) == (b"x", bytes(100_000))
