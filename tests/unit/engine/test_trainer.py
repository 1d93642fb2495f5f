from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tg_workbench.engine.trainer import (
    Architecture,
    LoraSpec,
    OptimizerSpec,
    PrivacySpec,
    Trainer,
    TrainerSpec,
)
from tg_workbench.errors import Interrupted, InvalidBatch, InvalidRequest, NoGradient, NotALanguageModel

SPEC = TrainerSpec(
    model_ref="mlp",
    architecture=Architecture((4,), 3, (16,)),
    lora=None,
    optimizer=OptimizerSpec("adam", learning_rate=0.05),
    loss=None,
    privacy=PrivacySpec(noise_multiplier=0.5, max_grad_norm=1.0),
    expected_batch_size=64,
    cache_folder=Path(),
)
TEXT_SPEC = dataclasses.replace(
    SPEC,
    model_ref="tiny-llama",
    architecture=None,
    lora=LoraSpec(rank=4, dropout=0.1, target_modules=("all-linear",)),
    optimizer=OptimizerSpec("adamw", learning_rate=0.02),
    expected_batch_size=2,
)


def make(**more: Any) -> Trainer:
    return Trainer(dataclasses.replace(SPEC, **more))


def rows(count: int = 64) -> dict[str, Any]:
    features = np.random.default_rng(0).normal(size=(count, 4))
    return {"features": features, "targets": (features[:, 0] > 0).astype(int) + (features[:, 1] > 0)}


@pytest.mark.parametrize("privacy", [SPEC.privacy, None], ids=["private", "plain"])
def test_rows_are_learned(privacy: PrivacySpec | None) -> None:
    trainer = make(privacy=privacy)
    for _ in range(60):
        trainer.forward_backward(rows())
        trainer.optim_step()
    assert trainer.step == 60
    found = trainer.evaluate(rows())
    assert found.accuracy is not None
    assert found.accuracy > 0.8


@pytest.mark.parametrize("privacy", [PrivacySpec(0.1, 1.0), None], ids=["private", "plain"])
def test_texts_are_learned(privacy: PrivacySpec | None) -> None:
    trainer = Trainer(dataclasses.replace(TEXT_SPEC, privacy=privacy))
    batch = trainer.tokenize(["abababab", "cdcdcdcd"], max_length=16)
    before = trainer.evaluate(batch).loss
    for _ in range(25):
        trainer.forward_backward(batch)
        trainer.optim_step()
    assert trainer.evaluate(batch).loss < 0.9 * before


def test_language_model_learns_whole_as_well() -> None:
    trainer = Trainer(dataclasses.replace(TEXT_SPEC, lora=None, privacy=PrivacySpec(0.0, 1.0)))
    batch = trainer.tokenize(["abababab", "cdcdcdcd"], max_length=16)
    before = trainer.evaluate(batch).loss
    for _ in range(3):
        trainer.forward_backward(batch)
        trainer.optim_step()
    assert trainer.evaluate(batch).loss < before


def test_pass_over_a_batch_tells_what_it_found() -> None:
    trainer = make(privacy=PrivacySpec(1.0, 0.5))
    found = trainer.forward_backward(rows(10))
    assert (found.num_examples, found.tokens) == (10, 10)
    assert found.loss == pytest.approx(trainer.evaluate(rows(10)).loss, rel=1e-5)
    assert found.grad_norm_after_clip <= 0.5 < found.grad_norm
    assert 0 < found.num_clipped <= 10


def test_plain_pass_tells_the_norm_of_the_mean_gradient() -> None:
    trainer = make(privacy=None)
    found = trainer.forward_backward(rows(10))
    assert found.grad_norm == found.grad_norm_after_clip > 0
    assert found.num_clipped == 0


def test_step_without_a_gradient_is_refused() -> None:
    trainer = make()
    with pytest.raises(NoGradient):
        trainer.optim_step()
    assert trainer.step == 0
    trainer.forward_backward(rows())
    assert trainer.pending
    trainer.optim_step()
    with pytest.raises(NoGradient):
        trainer.optim_step()


def test_empty_batch_of_a_sampler_is_a_step_like_any_other() -> None:
    trainer = make()
    nobody = {"features": np.zeros((0, 4)), "targets": np.zeros(0, dtype=int)}
    with pytest.raises(InvalidBatch, match="empty"):
        trainer.forward_backward(nobody)
    found = trainer.forward_backward(nobody, allow_empty=True)
    assert (found.num_examples, found.loss, found.grad_norm) == (0, 0.0, 0.0)
    assert trainer.optim_step().noise_applied


def test_empty_batch_of_texts_is_a_step_as_well() -> None:
    trainer = Trainer(TEXT_SPEC)
    trainer.forward_backward({"input_ids": np.zeros((0, 5), dtype=int)}, allow_empty=True)
    assert trainer.optim_step().step == 1


def test_learning_rate_holds_for_its_step_alone() -> None:
    trainer = make(privacy=None)
    before = trainer.state()[0]["model/output.bias"]
    trainer.forward_backward(rows())
    assert trainer.optim_step(learning_rate=0.0).learning_rate == 0.0
    assert torch.equal(trainer.state()[0]["model/output.bias"], before)
    trainer.forward_backward(rows())
    assert trainer.optim_step().learning_rate == 0.05
    assert not torch.equal(trainer.state()[0]["model/output.bias"], before)


def test_refused_batch_leaves_the_gradient_as_it_was() -> None:
    trainer, honest = make(privacy=PrivacySpec(0.0, 1.0)), make(privacy=PrivacySpec(0.0, 1.0))
    trainer.forward_backward(rows())
    with pytest.raises(InvalidBatch):
        trainer.forward_backward({"features": [[1.0, 2.0, 3.0, float("nan")]], "targets": [0]})
    honest.forward_backward(rows())
    for one in (trainer, honest):
        one.optim_step()
    assert torch.equal(trainer.state()[0]["model/output.bias"], honest.state()[0]["model/output.bias"])


def test_plain_gradient_that_is_not_finite_is_refused() -> None:
    trainer = make(privacy=None, loss="mse", architecture=Architecture((4,), 1))
    with pytest.raises(InvalidBatch, match="not finite"):
        trainer.forward_backward({"features": np.ones((1, 4)), "targets": [3e38]})
    assert not trainer.pending


def test_plain_gradient_that_nobody_checked_is_found_in_the_weights() -> None:
    trainer = make(privacy=None)
    weight = next(trainer.network.module.parameters())
    kept, metadata = trainer.state()
    for wrong in (False, True):
        hook = weight.register_hook(lambda gradient, wrong=wrong: gradient * (float("inf") if wrong else 1.0))
        assert np.isnan(trainer.forward_backward(rows(), check_gradient=False).grad_norm)
        hook.remove()
        if not wrong:
            trainer.optim_step()
            trainer.require_finite()
    trainer.require_finite()
    trainer.optim_step()
    for _ in range(2):
        with pytest.raises(InvalidBatch, match="not finite"):
            trainer.require_finite()
    trainer.load_state(kept, metadata)
    trainer.require_finite()


def test_private_gradient_that_is_not_finite_counts_as_zero() -> None:
    trainer = make(loss="mse", architecture=Architecture((4,), 1))
    found = trainer.forward_backward({"features": np.ones((1, 4)), "targets": [3e38]})
    assert (found.loss, found.num_examples) == (0.0, 1)
    trainer.optim_step()
    assert all(bool(tensor.isfinite().all()) for tensor in trainer.state()[0].values())


def test_row_that_comes_twice_is_refused_where_asked() -> None:
    trainer = make()
    trainer.forward_backward(rows(8), refuse_repeats=True)
    with pytest.raises(InvalidBatch, match="twice"):
        trainer.forward_backward(rows(1), refuse_repeats=True)
    trainer.optim_step()
    trainer.forward_backward(rows(1), refuse_repeats=True)


def test_predictions_are_classes_with_confidence_or_values() -> None:
    classes = make().predict({"features": np.zeros((2, 4))})
    assert [set(one) for one in classes] == [{"class", "confidence"}] * 2
    values = make(loss="mse", architecture=Architecture((4,), 1)).predict({"features": np.zeros((2, 4))})
    assert [set(one) for one in values] == [{"value"}] * 2
    halves = make(loss="bce", architecture=Architecture((4,), 1)).predict({"features": np.zeros((2, 4))})
    assert all(one["class"] in (0, 1) and one["confidence"] >= 0.5 for one in halves)
    tokens = Trainer(TEXT_SPEC).predict({"input_ids": [[1, 2, 3]]})
    assert 0 <= tokens[0]["class"] < 259


@pytest.mark.parametrize(("loss", "accurate"), [("cross_entropy", True), ("bce", True), ("mse", False)])
def test_evaluation_knows_what_can_be_right(loss: str, accurate: bool) -> None:
    trainer = make(loss=loss, architecture=Architecture((4,), 2 if loss == "cross_entropy" else 1))
    found = trainer.evaluate({"features": np.ones((6, 4)), "targets": [0, 1, 0, 1, 0, 1]}, micro_batch_size=4)
    assert found.num_examples == 6
    assert (found.accuracy is not None) is accurate


def test_row_model_writes_no_text() -> None:
    with pytest.raises(NotALanguageModel, match="predict"):
        make().sample(["hello"])
    with pytest.raises(NotALanguageModel):
        make().tokenize(["hello"], max_length=8)


def test_each_prompt_is_written_on() -> None:
    written = Trainer(TEXT_SPEC).sample(["a", "b"], max_tokens=3, stop_sequences=["\n"])
    assert [one.prompt for one in written] == ["a", "b"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"expected_batch_size": 0.0},
        {"loss": "hinge"},
        {"model_ref": "tiny-llama", "loss": "mse"},
        {"lora": LoraSpec()},
    ],
)
def test_spec_nobody_can_train_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        make(**wrong).forward_backward({"input_ids": [[1, 2]]})


@pytest.mark.parametrize(
    ("noise", "bound"), [(-1.0, 1.0), (float("nan"), 1.0), (1.0, 0.0), (1.0, float("inf"))]
)
def test_privacy_nobody_can_keep_is_refused(noise: float, bound: float) -> None:
    with pytest.raises(InvalidRequest):
        PrivacySpec(noise, bound)


def test_plain_step_is_the_mean_over_the_rows_that_came(tmp_path: Path) -> None:
    rows: dict[str, list[Any]] = {"features": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], "targets": [0, 1, 1]}
    spec = TrainerSpec(
        "mlp", Architecture((2,), 2), None, OptimizerSpec("sgd", 0.5), None, None, None, tmp_path
    )
    whole, halves = Trainer(spec), Trainer(spec)
    halves.load_state(*whole.state())
    whole.forward_backward(rows)
    for part in (slice(0, 1), slice(1, 3)):
        halves.forward_backward({name: values[part] for name, values in rows.items()})
    whole.optim_step()
    halves.optim_step()
    for name, tensor in whole.state()[0].items():
        torch.testing.assert_close(tensor, halves.state()[0][name])


def test_private_sum_needs_a_declared_batch_size(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="declared"):
        TrainerSpec(
            "mlp", Architecture((2,), 2), None, OptimizerSpec(), None, PrivacySpec(1.0, 1.0), None, tmp_path
        )


@pytest.mark.parametrize("private", [False, True])
def test_a_batch_larger_than_memory_is_meant_for_goes_in_parts(
    private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tg_workbench.engine import reader as module

    spec = dataclasses.replace(
        TEXT_SPEC,
        lora=dataclasses.replace(TEXT_SPEC.lora, dropout=0.0) if TEXT_SPEC.lora else None,
        privacy=PrivacySpec(0.0, 1.0) if private else None,
    )
    whole, parted = Trainer(spec), Trainer(spec)
    batch = whole.tokenize(["abab", "cdcdcd", "ee", "fghi"], max_length=16)
    expected = (whole.forward_backward(batch), whole.evaluate(batch), whole.predict(batch))
    monkeypatch.setattr(module, "MOST_NUMBERS", 1)
    found = (parted.forward_backward(batch), parted.evaluate(batch), parted.predict(batch))
    assert found[0].loss == pytest.approx(expected[0].loss, rel=1e-5)
    assert found[0].grad_norm == pytest.approx(expected[0].grad_norm, rel=1e-4)
    assert found[1].loss == pytest.approx(expected[1].loss, rel=1e-5)
    assert [said["class"] for said in found[2]] == [said["class"] for said in expected[2]]


def test_measure_tells_the_same_loss_and_accuracy_as_evaluate() -> None:
    trainer = make()
    found, told = trainer.measure(rows()), trainer.evaluate(rows())
    assert found.num_examples == told.num_examples
    assert found.loss == pytest.approx(told.loss)
    assert found.metrics["accuracy"] == pytest.approx(told.accuracy)
    assert found.metrics.keys() == {"accuracy", "precision", "recall", "f1"}


def test_measure_of_numbers_and_of_texts_is_their_own() -> None:
    numbers = make(architecture=Architecture((4,), 1))
    batch = {"features": rows()["features"], "targets": rows()["features"][:, 0]}
    assert numbers.measure(batch).metrics.keys() == {"mae", "rmse", "r2"}
    texts = Trainer(TEXT_SPEC)
    assert texts.measure(texts.tokenize(["ab", "abc"], max_length=8)).metrics.keys() == {
        "accuracy",
        "perplexity",
    }


def test_measure_breaks_off_when_it_should() -> None:
    with pytest.raises(Interrupted):
        make().measure(rows(), lambda: True)


def test_seed_chooses_the_initial_weights_and_the_adapters() -> None:
    for make_one in (make, lambda **more: Trainer(dataclasses.replace(TEXT_SPEC, **more))):
        first, again, other = (make_one(seed=seed).state(False)[0] for seed in (1, 1, 2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)
    with pytest.raises(InvalidRequest, match="seed"):
        make(seed=-1)
