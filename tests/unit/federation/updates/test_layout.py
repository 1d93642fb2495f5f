"""A layout is one vector and many names, and nothing is copied between the two."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st

from tg_workbench.errors import InvalidField
from tg_workbench.federation.updates import Layout

SHAPES = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_.\-/:]{1,20}", fullmatch=True),
    st.lists(st.integers(1, 4), max_size=3),
    min_size=1,
    max_size=8,
)


@given(SHAPES, st.randoms())
def test_the_order_of_definition_does_not_matter(shapes: dict[str, list[int]], random: Random) -> None:
    shuffled = list(shapes.items())
    random.shuffle(shuffled)
    one, other = Layout.of(shapes), Layout.of(dict(shuffled))
    assert (one, one.digest) == (other, other.digest)
    assert Layout.from_json(one.as_json()) == one


@given(SHAPES)
def test_the_data_of_a_safetensors_file_are_the_vector(shapes: dict[str, list[int]]) -> None:
    layout = Layout.of(shapes)
    vector = np.arange(layout.size, dtype=np.float32)
    assert safetensors.numpy.save(layout.arrays(vector)).endswith(vector.tobytes())
    assert np.array_equal(layout.vector(layout.arrays(vector)), vector)


def test_named_arrays_are_views_of_the_vector() -> None:
    layout = Layout.of({"weight": (2, 3), "bias": (2,)})
    vector = np.zeros(8, np.float32)
    layout.arrays(vector)["weight"][1, 2] = 5.0
    assert vector.tolist() == [0.0] * 7 + [5.0]
    assert layout.names == ("bias", "weight")


def test_a_models_parameters_have_a_layout() -> None:
    model = torch.nn.Linear(3, 2)
    layout = Layout.of({name: tuple(value.shape) for name, value in model.state_dict().items()})
    vector = layout.vector({name: value.numpy() for name, value in model.state_dict().items()})
    assert np.array_equal(layout.arrays(vector)["weight"], model.weight.detach().numpy())


def test_another_shape_or_name_has_another_digest() -> None:
    shapes: list[dict[str, Any]] = [
        {"a": (2, 3)},
        {"a": (3, 2)},
        {"a": (6,)},
        {"b": (6,)},
        {"a": (3,), "b": (3,)},
    ]
    assert len({Layout.of(shape).digest for shape in shapes}) == 5


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"": (1,)},
        {"~control/a": (1,)},
        {"ä": (1,)},
        {"a\n": (1,)},
        {"a" * 201: (1,)},
        {"a": (0,)},
        {"a": (-1,)},
        {"a": (True,)},
        {"a": (2**40,)},
        {f"p{n}": (1,) for n in range(10_001)},
    ],
    ids=lambda shapes: f"{len(shapes)} {next(iter(shapes), None)!r:.12} {next(iter(shapes.values()), None)}",
)
def test_a_layout_of_no_model_is_refused(shapes: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match="layout"):
        Layout.of(shapes)


@pytest.mark.parametrize(
    "arrays",
    [{"a": np.zeros(2)}, {"a": np.zeros(3), "b": np.zeros(3)}, {"b": np.zeros(3)}, {"a": np.zeros((3, 1))}],
    ids=["length", "one more", "another", "shape"],
)
def test_arrays_of_another_model_make_no_vector(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(InvalidField, match="parameters"):
        Layout.of({"a": (3,)}).vector(arrays)


def test_a_vector_of_another_length_has_no_names() -> None:
    with pytest.raises(InvalidField, match="3 numbers"):
        Layout.of({"a": (3,)}).arrays(np.zeros(4, np.float32))
