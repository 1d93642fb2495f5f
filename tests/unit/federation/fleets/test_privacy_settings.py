"""What may be asked of a round's privacy, what is refused and why, and what every answer says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tg_workbench.errors import InvalidField, PrivacyRefused
from tg_workbench.federation.fleets.privacy_settings import (
    NO_GUARANTEE,
    PrivacySettings,
    require_affordable,
    warning_of,
)
from tg_workbench.privacy import curves, planner

PRIVATE = {"differential_privacy": True}
TREE = {**PRIVATE, "mechanism": "dp_ftrl", "rounds": 32}


def test_the_documents_example_is_taken_and_its_epsilon_told() -> None:
    settings = PrivacySettings.of({"differential_privacy": True, "noise_level": 0.1})
    answer = planner.answer(planner.Question.from_json(settings.question(1e-5)))
    assert answer.epsilon == pytest.approx(curves.gaussian_epsilon(10.0, 1e-5))
    view = settings.view(delta=1e-5, noise_multiplier=0.1, epsilon=answer.epsilon)
    assert view["epsilon"] > 90
    assert "practically no guarantee" in view["warning"]
    with pytest.raises(PrivacyRefused, match=r"past its cap of 10\.00"):
        require_affordable(answer.total_epsilon, 10.0, 0.0)


def test_every_answer_says_what_epsilon_needs_to_mean_something() -> None:
    settings = PrivacySettings(differential_privacy=True, sampling="poisson", sample_rate=0.1)
    view = settings.view(delta=1e-6, noise_multiplier=1.0, epsilon=2.0, round_epsilon=0.5)
    expected = {"unit": "device", "relation": "add_or_remove_one", "mode": "sampled", "accountant": "pld"}
    assert expected.items() <= view.items()
    assert (view["epsilon"], view["delta"], view["warning"]) == (2.0, 1e-6, None)
    assert PrivacySettings.of(PRIVATE).relation == "zero_out_one"
    assert PrivacySettings().view(delta=1e-6, noise_multiplier=0.0, epsilon=0.0) == NO_GUARANTEE
    json.dumps(settings.view(delta=1e-6, noise_multiplier=0.05, epsilon=float("inf")), allow_nan=False)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"differential_privacy": "yes"}, "differential_privacy"),
        ({"noise_level": 1.0}, "differential_privacy"),
        ({**PRIVATE, "noise_level": 0}, "noise_level"),
        ({**PRIVATE, "noise_level": -1}, "noise_level"),
        ({**PRIVATE, "noise_level": 0.049}, "noise_level"),
        ({**PRIVATE, "noise_level": True}, "noise_level"),
        ({**PRIVATE, "noise_level": float("nan")}, "noise_level"),
        ({**PRIVATE, "noise_level": float("inf")}, "noise_level"),
        ({**PRIVATE, "noise_level": "0.1"}, "noise_level"),
        ({**PRIVATE, "clip_norm": 0}, "clip_norm"),
        ({**PRIVATE, "clip_norm": None}, "clip_norm"),
        ({**PRIVATE, "noise_level": 1, "target_epsilon": 3}, "target_epsilon"),
        ({**PRIVATE, "target_epsilon": 0}, "target_epsilon"),
        ({**PRIVATE, "rounds": 0}, "rounds"),
        ({**PRIVATE, "rounds": 1.5}, "rounds"),
        ({**PRIVATE, "mechanism": "laplace"}, "mechanism"),
        ({**PRIVATE, "sampling": "shuffled"}, "sampling"),
        ({**PRIVATE, "sampling": "poisson"}, "sample_rate"),
        ({**PRIVATE, "sample_rate": 0.5}, "sample_rate"),
        ({**PRIVATE, "max_participations": 2, "rounds": 4}, "mechanism"),
        ({**TREE, "sampling": "poisson", "sample_rate": 0.5}, "sampling"),
        ({**TREE, "adaptive_clipping": True}, "adaptive_clipping"),
        ({**TREE, "max_participations": 33}, "max_participations"),
        ({**TREE, "tree_rounds": 0}, "tree_rounds"),
        ({**PRIVATE, "epsilon": 1}, "privacy_settings"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        PrivacySettings.of(asked)
    assert [problem["where"] for problem in refused.value.problems] == [field]


def test_a_target_is_reached_by_the_noise_that_is_found() -> None:
    for asked in (
        {**PRIVATE, "target_epsilon": 3.0, "rounds": 20},
        {**TREE, "target_epsilon": 3.0, "tree_rounds": 8, "max_participations": 2, "min_separation": 4},
        {**PRIVATE, "target_epsilon": 3.0, "rounds": 20, "sampling": "poisson", "sample_rate": 0.1},
    ):
        answer = planner.answer(planner.Question.from_json(PrivacySettings.of(asked).question(1e-5)))
        assert 2.9 < answer.epsilon <= 3.0


def test_a_strategy_that_sees_single_updates_is_refused() -> None:
    settings = PrivacySettings.of(PRIVATE)
    settings.check_strategy(needs_each_update=False, control=False)
    PrivacySettings().check_strategy(needs_each_update=True, control=True)
    for each, control in ((True, False), (False, True)):
        with pytest.raises(PrivacyRefused, match="one noisy mean"):
            settings.check_strategy(needs_each_update=each, control=control)


def test_it_is_stored_and_comes_back() -> None:
    settings = PrivacySettings.of({**TREE, "noise_level": 4.0})
    assert PrivacySettings.of(json.loads(json.dumps(settings.as_json()))) == settings


def test_a_small_epsilon_is_no_warning() -> None:
    assert warning_of(3.0) is None


@pytest.mark.parametrize("module", ["privacy_settings", "fleets", "tables"])
def test_what_the_api_asks_needs_no_arithmetic(module: str) -> None:
    script = f"import sys, tg_workbench.federation.fleets.{module}; print(*sys.modules)"
    held = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"numpy", "scipy", "torch", "dp_accounting"}.isdisjoint(held.stdout.split())
