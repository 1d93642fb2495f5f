from __future__ import annotations

from typing import Any

import pytest

from tg_workbench.errors import InvalidRequest
from tg_workbench.sdk.plans import (
    Architecture,
    ClientPlan,
    LoRA,
    Optimizer,
    Privacy,
    chosen_lora,
    chosen_optimizer,
    chosen_privacy,
)


def test_what_was_not_said_is_left_to_the_workbench() -> None:
    assert ClientPlan("mlp").as_wire().keys() == {"model_ref", "optimizer"}


def test_a_target_leaves_the_noise_to_the_workbench() -> None:
    plan = ClientPlan("mlp", privacy=Privacy(target_epsilon=2.0, delta=1e-6), max_steps=100)
    asked = plan.as_wire()["dp_config"]
    assert asked["enabled"]
    assert (asked["target_epsilon"], asked["noise_multiplier"], asked["target_delta"]) == (2.0, None, 1e-6)


def test_a_noise_multiplier_brings_no_target_of_its_own() -> None:
    asked = Privacy(noise_multiplier=1.1).as_wire()
    assert (asked["noise_multiplier"], asked["target_epsilon"]) == (1.1, None)


@pytest.mark.parametrize(
    ("private", "asked"), [(None, None), (False, {"enabled": False}), (True, Privacy().as_wire())]
)
def test_private_is_asked_for_refused_or_left_to_the_workbench(private: bool | None, asked: Any) -> None:
    assert ClientPlan("mlp", privacy=chosen_privacy(private, None, {})).as_wire().get("dp_config") == asked


def test_asking_for_privacy_without_numbers_means_epsilon_three() -> None:
    assert Privacy().as_wire()["target_epsilon"] == 3.0


@pytest.mark.parametrize(
    ("private", "privacy", "numbers"),
    [
        (False, None, {"target_epsilon": 3.0}),
        (False, Privacy(), {}),
        (None, Privacy(), {"noise_multiplier": 1.0}),
    ],
)
def test_contradictory_privacy_is_refused(
    private: bool | None, privacy: Privacy | None, numbers: dict[str, float | None]
) -> None:
    with pytest.raises(InvalidRequest):
        chosen_privacy(private, privacy, numbers)


def test_a_learning_rate_beside_an_optimizer_wins() -> None:
    assert chosen_optimizer("sgd", 0.5) == Optimizer("sgd", learning_rate=0.5)
    assert chosen_optimizer(Optimizer("adam", weight_decay=0.0), 0.5) == Optimizer("adam", 0.5, 0.0)


def test_a_rank_means_the_usual_adapters() -> None:
    asked = ClientPlan("tiny-llama", lora=chosen_lora(None, 4)).as_wire()["lora_config"]
    assert (asked["rank"], asked["alpha"]) == (4, 8.0)
    with pytest.raises(InvalidRequest, match="not both"):
        chosen_lora(LoRA(), 4)


@pytest.mark.parametrize(
    "architecture",
    [Architecture((30,), 2), {"input_shape": [30], "output_size": 2, "hidden_sizes": []}],
)
def test_an_architecture_is_taken_as_a_value_or_a_mapping(architecture: Any) -> None:
    asked = ClientPlan("mlp", architecture=architecture).as_wire()["architecture"]
    assert asked == {"input_shape": [30], "output_size": 2, "hidden_sizes": []}
