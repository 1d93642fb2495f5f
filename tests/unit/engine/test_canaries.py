"""Canaries come from their seed and from shapes alone, and fit the batches they are put into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tg_workbench.engine import architectures
from tg_workbench.engine.canaries import CANARY_TOKENS, Seed, canary_rows
from tg_workbench.engine.networks import LanguageModel
from tg_workbench.engine.trainer import Architecture, OptimizerSpec, PrivacySpec, Trainer, TrainerSpec
from tg_workbench.errors import InvalidRequest

SEED = Seed("ab" * 32)
ROWS = {"features": {"dtype": "F32", "shape": [200, 8]}, "targets": {"dtype": "I64", "shape": [200]}}


def network(outputs: int = 3) -> Any:
    return architectures.build("mlp", Architecture((8,), outputs), Path())


def trainer(loss: str | None = None, *, private: bool = True, outputs: int = 3) -> Trainer:
    return Trainer(
        TrainerSpec(
            model_ref="mlp",
            architecture=Architecture((8,), outputs),
            lora=None,
            optimizer=OptimizerSpec("sgd", learning_rate=0.5, weight_decay=0.0),
            loss=loss,
            privacy=PrivacySpec(0.0, 1e3) if private else None,
            expected_batch_size=10.0,
            cache_folder=Path(),
        )
    )


def test_a_seed_gives_the_same_canaries_in_any_process() -> None:
    """Written down once: a worker of a later version must make the same ones."""
    assert SEED.coins(8).tolist() == Seed("ab" * 32).coins(8).tolist()
    assert SEED.integers("tokens", 256, (4,)).tolist() == [191, 43, 1, 26]
    assert Seed("cd" * 32).integers("tokens", 256, (4,)).tolist() != [191, 43, 1, 26]


def test_coins_are_fair_and_numbers_normal() -> None:
    assert abs(SEED.coins(10_000).mean() - 0.5) < 0.025
    drawn = SEED.normals("features", (100, 100))
    assert abs(drawn.mean()) < 0.05
    assert abs(drawn.std() - 1) < 0.05
    assert np.isfinite(drawn).all()
    assert not np.array_equal(SEED.normals("targets", (100, 100)), drawn)


@pytest.mark.parametrize(
    ("dtype", "shape", "loss", "outputs", "kinds"),
    [
        ("I64", [200], None, 3, {0, 1, 2}),
        ("I64", [200, 1], "cross_entropy", 3, {0, 1, 2}),
        ("F32", [200], "cross_entropy", 3, {0.0, 1.0, 2.0}),
        ("I64", [200], None, 1, {0, 1}),
        ("F32", [200, 2], "bce", 2, {0.0, 1.0}),
        ("F64", [200, 2], None, 2, None),
    ],
)
def test_rows_fit_the_dataset_and_can_be_learned(
    dtype: str, shape: list[int], loss: str | None, outputs: int, kinds: set[float] | None
) -> None:
    header = {**ROWS, "targets": {"dtype": dtype, "shape": shape}}
    rows = canary_rows(network(outputs), 100, SEED, header=header, loss=loss)
    assert rows["features"].shape == (100, 8)
    assert rows["targets"].shape == (100, *shape[1:])
    if kinds is None:
        assert abs(float(rows["targets"].mean())) < 0.5
    else:
        assert set(rows["targets"].ravel().tolist()) == kinds
    trainer(loss, outputs=outputs).forward_backward(rows)


def test_bytes_are_any_byte() -> None:
    header = {**ROWS, "features": {"dtype": "U8", "shape": [200, 8]}}
    features = canary_rows(network(), 400, SEED, header=header, loss=None)["features"]
    assert (features.min(), features.max()) == (0, 255)


def test_tokens_are_any_sequence_of_the_vocabulary() -> None:
    model = architectures.build("tiny-llama", None, Path())
    assert isinstance(model, LanguageModel)
    texts = canary_rows(model, 20, SEED, header=None, loss=None)
    assert texts["input_ids"].shape == (20, CANARY_TOKENS)
    assert texts["input_ids"].max() < model.vocabulary_size
    header = {"input_ids": {"dtype": "I64", "shape": [9, 5]}, "labels": {"dtype": "I64", "shape": [9, 5]}}
    tokens = canary_rows(model, 20, SEED, header=header, loss=None)
    assert {name: column.shape for name, column in tokens.items()} == {
        "input_ids": (20, 5),
        "labels": (20, 5),
    }
    with pytest.raises(InvalidRequest):
        canary_rows(model, 20, SEED, header=ROWS, loss=None)
    with pytest.raises(InvalidRequest):
        canary_rows(network(), 20, SEED, header=header, loss=None)


@pytest.mark.parametrize("private", [True, False])
def test_canaries_are_learned_and_not_told_of(private: bool) -> None:
    rows = canary_rows(network(), 10, SEED, header=ROWS, loss=None)
    real = {name: column[:6] for name, column in rows.items()}
    alone, beside = trainer(private=private), trainer(private=private)
    told = alone.forward_backward(real)
    with_canaries = beside.forward_backward(rows, canaries=4)
    assert with_canaries.num_examples == told.num_examples == 6
    assert with_canaries.loss == pytest.approx(told.loss)
    if private:
        assert with_canaries.grad_norm == pytest.approx(told.grad_norm)
    beside.optim_step()
    all_of_them = trainer(private=private)
    all_of_them.forward_backward(rows)
    all_of_them.optim_step()
    for name, tensor in beside.state()[0].items():
        assert tensor.equal(all_of_them.state()[0][name])


def test_each_loss_is_what_evaluate_averages() -> None:
    rows = canary_rows(network(), 50, SEED, header=ROWS, loss=None)
    one = trainer()
    assert one.each_loss(rows).shape == (50,)
    assert one.each_loss(rows).mean() == pytest.approx(one.evaluate(rows).loss)
