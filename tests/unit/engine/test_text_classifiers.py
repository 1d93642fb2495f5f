from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.engine.test_trainer import TEXT_SPEC
from tg_workbench.engine.architectures import build
from tg_workbench.engine.canaries import Seed, canary_rows
from tg_workbench.engine.networks import PREPARED, TextClassifier
from tg_workbench.engine.specs import Architecture, LoraSpec, OptimizerSpec, PrivacySpec
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import InvalidBatch, InvalidRequest, NotALanguageModel

TEXTS = ["aaaa", "zz", "aaaaaaaa", "zzzzzzz", "aa", "zzzz"]
CLASSES = [0, 1, 0, 1, 0, 1]
LORA = LoraSpec(rank=4, dropout=0.0, target_modules=("all-linear",))
ADAPTED = {"frozen": None, "lora": LORA}
SPEC = dataclasses.replace(
    TEXT_SPEC,
    architecture=Architecture((), 2),
    lora=None,
    privacy=None,
    optimizer=OptimizerSpec("adam", learning_rate=0.02),
    expected_batch_size=6,
)


def make(**more: Any) -> Trainer:
    return Trainer(dataclasses.replace(SPEC, **more))


def batch_of(trainer: Trainer) -> dict[str, Any]:
    return {**trainer.tokenize(TEXTS, max_length=16), "targets": np.asarray(CLASSES)}


def network_of(trainer: Trainer) -> TextClassifier:
    assert isinstance(trainer.network, TextClassifier)
    return trainer.network


@pytest.mark.parametrize("privacy", [PrivacySpec(0.05, 1.0), None], ids=["private", "plain"])
@pytest.mark.parametrize("adapters", ADAPTED.values(), ids=ADAPTED)
def test_texts_are_told_apart(adapters: LoraSpec | None, privacy: PrivacySpec | None) -> None:
    trainer = make(lora=adapters, privacy=privacy)
    batch = trainer.prepare(batch_of(trainer))
    before = trainer.measure(batch).loss
    for _ in range(30):
        trainer.forward_backward(batch)
        trainer.optim_step()
    found = trainer.measure(batch_of(trainer))
    assert found.loss < 0.5 * before
    assert found.metrics["f1"] == 1.0
    told = trainer.predict(trainer.tokenize(["zzz", "aaaaa"], max_length=16))
    assert [each["class"] for each in told] == [1, 0]
    assert all(0.5 < each["confidence"] <= 1.0 for each in told)
    again = make(lora=adapters, privacy=privacy)
    again.load_state(*trainer.state())
    assert again.evaluate(batch).loss == pytest.approx(trainer.evaluate(batch).loss, rel=1e-5)


def test_only_the_head_learns_unless_adapters_do() -> None:
    assert set(make().state(False)[0]) == {"model/score.weight"}
    adapted = set(make(lora=LORA).state(False)[0])
    assert "model/score.weight" in adapted
    assert all("lora_" in name for name in adapted - {"model/score.weight"})
    assert len(adapted) == 1 + 2 * 7 * 2  # two blocks of seven linear layers


def test_what_a_frozen_trunk_makes_is_prepared_once_and_answers_alike() -> None:
    trainer = make()
    batch = batch_of(trainer)
    made = trainer.prepare(batch)
    assert made.keys() == {PREPARED, "targets"}
    assert (made[PREPARED].dtype, made[PREPARED].shape) == (np.float16, (6, 64))
    assert trainer.prepare(made) is not made
    assert trainer.each_loss(made) == pytest.approx(trainer.each_loss(batch), abs=2e-3)
    assert make(lora=LORA).prepare(batch).keys() == batch.keys()


def test_padding_changes_no_answer() -> None:
    trainer = make()
    short, long = (trainer.tokenize(texts, max_length=64) for texts in (["ab"], ["ab", "a" * 40]))
    wide = np.asarray(trainer.predict(long)[0]["confidence"])
    assert trainer.predict(short)[0]["confidence"] == pytest.approx(float(wide), rel=1e-5)


def test_dropout_of_a_frozen_trunk_is_never_on() -> None:
    trainer = make()
    trunk = network_of(trainer).module.trunk
    trunk.config.attention_dropout = 0.9  # type: ignore[union-attr]
    for layer in trunk.layers:  # type: ignore[union-attr]
        layer.self_attn.attention_dropout = 0.9
    batch = batch_of(trainer)
    assert trainer.forward_backward(batch).loss == pytest.approx(trainer.evaluate(batch).loss, rel=1e-5)
    assert trunk.training is False or trainer.network.module.training


def test_blocks_are_computed_again_where_adapters_learn() -> None:
    batch = batch_of(make())
    losses = []
    for again in (False, True):
        trainer = make(lora=LORA, gradient_checkpointing=again, privacy=PrivacySpec(0.0, 1.0))
        trainer.forward_backward(batch)
        trainer.optim_step()
        losses.append(trainer.evaluate(batch).loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    with pytest.raises(InvalidRequest, match="frozen"):
        make(gradient_checkpointing=True)


def test_class_weights_and_numbers_work_for_texts_too() -> None:
    trainer = make(class_weights=(1.0, 3.0))
    assert trainer.each_loss(batch_of(trainer)) == pytest.approx(
        make().each_loss(batch_of(trainer)) * np.asarray([1.0, 3.0] * 3), rel=1e-5
    )
    numbers = make(architecture=Architecture((), 1))
    batch = {**batch_of(numbers), "targets": np.asarray(CLASSES, dtype=np.float32)}
    assert numbers.measure(batch).metrics.keys() == {"mae", "rmse", "r2"}
    assert numbers.predict(batch)[0].keys() == {"value"}


def test_classifier_writes_no_text_and_says_what_it_lacks() -> None:
    trainer = make()
    assert trainer.reads_text
    assert not trainer.is_language_model
    with pytest.raises(NotALanguageModel):
        trainer.sample(["a"])
    with pytest.raises(InvalidBatch, match="targets"):
        trainer.forward_backward(trainer.tokenize(TEXTS, max_length=8))
    with pytest.raises(InvalidBatch, match="input_ids"):
        trainer.forward_backward({"features": np.ones((2, 3)), "targets": [0, 1]})
    with pytest.raises(InvalidBatch, match="0 to 1"):
        trainer.forward_backward({**batch_of(trainer), "targets": np.full(6, 2)})


@pytest.mark.parametrize("wrong", [Architecture((3,), 2), Architecture((), 2, (8,))])
def test_language_model_takes_no_other_shape(wrong: Architecture) -> None:
    with pytest.raises(InvalidRequest, match="output_size alone"):
        build("tiny-llama", wrong, Path())


def test_row_model_needs_the_shape_of_its_rows() -> None:
    with pytest.raises(InvalidRequest, match="input_shape"):
        build("mlp", Architecture((), 2), Path())


def test_canaries_of_texts_have_classes() -> None:
    trainer = make()
    made = canary_rows(trainer.network, 20, Seed("0" * 64), header=None, loss=None)
    trainer.check(made)
    assert set(made["targets"].tolist()) == {0, 1}
    assert torch.equal(torch.tensor(made["attention_mask"]), torch.ones_like(torch.tensor(made["input_ids"])))
