from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tg_workbench.engine.batches import (
    Batch,
    Repeats,
    digests,
    loss_for,
    read_rows,
    read_targets,
    read_tokens,
)
from tg_workbench.engine.losses import IGNORED
from tg_workbench.errors import InvalidBatch

WRONG_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"input_ids": [[1]]}, "send features"),
    ({"features": []}, "empty"),
    ({"features": [[1.0, float("nan")]]}, "not finite"),
    ({"features": [[1.0, float("inf")]]}, "not finite"),
    ({"features": [[1.0, 2.0, 3.0]]}, "this model takes 2"),
    ({"features": [[1.0, 2.0], [3.0]]}, "rows of one length"),
    ({"features": [["a", "b"]]}, "must be numbers"),
    ({"features": [[1.0, None]]}, "must be numbers"),
    ({"features": 3.0}, "list of examples"),
    ({"features": [[True, False]]}, "must be numbers"),
    ({"features": [[10**400, 1]]}, "must be numbers"),
    ({"features": np.zeros((1, 2), dtype=complex)}, "must be numbers"),
]


@pytest.mark.parametrize(("batch", "words"), WRONG_ROWS)
def test_rows_nobody_can_learn_from_are_refused(batch: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidBatch, match=words):
        read_rows(batch, input_shape=(2,))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int32, np.uint8, np.float16])
def test_rows_of_any_number_type_are_read(kind: Any) -> None:
    read = read_rows({"features": np.ones((3, 4), dtype=kind)}, input_shape=(2, 2))
    assert read.shape == (3, 2, 2)
    assert read.dtype == torch.float32


def test_bytes_are_read_as_the_pixels_of_images_and_wider_numbers_as_they_are() -> None:
    pixels = np.array([[[0, 51, 255]]])
    for kind in (np.uint8, torch.uint8):
        given = torch.tensor(pixels, dtype=kind) if isinstance(kind, torch.dtype) else pixels.astype(kind)
        for shape, sent in (((1, 3), given), ((3,), given), ((1, 3), given.reshape(1, 3))):
            read = read_rows({"features": sent}, input_shape=shape)
            torch.testing.assert_close(read, torch.tensor([[0.0, 0.2, 1.0]]).reshape(1, *shape))
    for wider in (pixels, pixels.astype(np.uint16), pixels.astype(np.float32), pixels.tolist()):
        assert read_rows({"features": wider}, input_shape=(3,)).tolist() == [[0.0, 51.0, 255.0]]


def test_bytes_in_a_table_are_numbers() -> None:
    flags = np.array([[0, 1, 200]], dtype=np.uint8)
    assert read_rows({"features": flags}, input_shape=(3,)).tolist() == [[0.0, 1.0, 200.0]]


def test_classes_may_be_bytes() -> None:
    rows = np.zeros((2, 1), dtype=np.uint8)
    batch = {"features": rows, "targets": np.array([0, 2], dtype=np.uint8)}
    assert loss_for(batch, 3) == "cross_entropy"
    assert read_targets(batch, count=2, output_size=3, loss="cross_entropy").tolist() == [0, 2]


def test_large_but_finite_rows_are_read() -> None:
    assert read_rows({"features": [[3e38, 3e38]]}, input_shape=(2,)).isfinite().all()


def test_empty_rows_are_read_where_a_sampler_may_draw_nobody() -> None:
    assert read_rows({"features": np.zeros((0, 2))}, input_shape=(2,), allow_empty=True).shape == (0, 2)


def test_batch_is_not_changed_when_its_source_changes() -> None:
    source = np.ones((1, 2), dtype=np.float32)
    read = read_rows({"features": source}, input_shape=(2,))
    source[:] = 9.0
    assert read.tolist() == [[1.0, 1.0]]


WRONG_TARGETS: list[tuple[Any, str, str]] = [
    (None, "cross_entropy", "missing"),
    ([0], "cross_entropy", "each of the 2"),
    ([0, 3], "cross_entropy", "from 0 to 2"),
    ([0, -1], "cross_entropy", "from 0 to 2"),
    ([0, 0.5], "cross_entropy", "whole class numbers"),
    ([[0, 1], [1, 0]], "cross_entropy", "one class number"),
    ([0.0, float("nan")], "mse", "not finite"),
    ([0.0, 1.0], "mse", r"3 value\(s\)"),
    ([[0.0, 1.0, 2.0]] * 2, "bce", "from 0 to 1"),
]


@pytest.mark.parametrize(("targets", "loss", "words"), WRONG_TARGETS)
def test_targets_that_fit_no_answer_are_refused(targets: Any, loss: str, words: str) -> None:
    with pytest.raises(InvalidBatch, match=words):
        read_targets({"targets": targets}, count=2, output_size=3, loss=loss)


def test_loss_follows_the_targets() -> None:
    assert loss_for({"targets": [0, 2]}, 3) == "cross_entropy"
    assert loss_for({"targets": [0, 1]}, 1) == "bce"
    assert loss_for({"targets": [0.5, 1.0]}, 1) == "mse"


WRONG_TOKENS: list[tuple[dict[str, Any], str]] = [
    ({"features": [[1.0]]}, "send input_ids"),
    ({"input_ids": []}, "empty"),
    ({"input_ids": [1, 2]}, "token lists"),
    ({"input_ids": [[1, 2], [3]]}, "rows of one length"),
    ({"input_ids": [[]]}, "pad"),
    ({"input_ids": [[1.5, 2.0]]}, "whole numbers"),
    ({"input_ids": [[1, 300]]}, "another tokenizer"),
    ({"input_ids": [[1, -1]]}, "another tokenizer"),
    ({"input_ids": [[1] * 9]}, "reads up to 8"),
    ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, "shape of input_ids"),
    ({"input_ids": [[1, 2]], "attention_mask": [[1, 2]]}, "0 and 1"),
    ({"input_ids": [[1, 2]], "labels": [[1, 300]]}, "below 10"),
    ({"input_ids": [[1, 2]], "labels": [1, 2]}, "shape of input_ids"),
]


@pytest.mark.parametrize(("batch", "words"), WRONG_TOKENS)
def test_tokens_nobody_can_learn_from_are_refused(batch: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidBatch, match=words):
        read_tokens(batch, vocabulary_size=10, max_length=8)


def test_target_of_a_token_is_the_next_label() -> None:
    batch = {"input_ids": [[1, 2, 3, 0]], "attention_mask": [[1, 1, 1, 0]]}
    read = read_tokens(batch, vocabulary_size=10, max_length=8)
    assert read.targets is not None
    assert read.targets.tolist() == [[2, 3, IGNORED, IGNORED]]
    assert read.tokens == 3


def test_batch_is_cut_into_parts_that_make_it_whole() -> None:
    batch = Batch({"features": torch.arange(7.0)}, torch.arange(7))
    assert [part.size for part in batch.parts(3)] == [3, 3, 1]
    assert [part.size for part in batch.parts(7)] == [7]


def test_example_that_comes_twice_is_noticed() -> None:
    batch = Batch({"features": torch.tensor([[1.0], [2.0]])}, torch.tensor([0, 1]))
    repeats = Repeats()
    repeats.add(repeats.check(digests(batch), "an example"))
    with pytest.raises(InvalidBatch, match="an example came twice"):
        repeats.check(digests(batch), "an example")
    other = Batch({"features": torch.tensor([[1.0], [2.0]])}, torch.tensor([1, 0]))
    repeats.add(
        repeats.check(digests(other), "an example")
    )  # the same features with other targets are another example
    with pytest.raises(InvalidBatch, match="twice"):
        Repeats().check(digests(Batch({"features": torch.ones(2, 1)}, torch.ones(2))), "an example")


def test_unit_is_never_divided_between_parts() -> None:
    units = torch.tensor([2, 0, 1, 2, 2, 0, 3])
    parts = list(Batch({"features": torch.arange(7.0)}, torch.arange(7), units).parts(3))
    assert [part.inputs["features"].tolist() for part in parts] == [[2.0, 6.0], [1.0, 5.0], [0.0, 3.0, 4.0]]
    told = [part.units.tolist() for part in parts if part.units is not None]
    assert told == [[0, 1], [0, 0], [0, 0, 0]]  # the largest of a part, times how many they are: 3 at most
    assert [
        part.size for part in Batch({"features": torch.zeros(5)}, None, torch.zeros(5).long()).parts(2)
    ] == [5]
