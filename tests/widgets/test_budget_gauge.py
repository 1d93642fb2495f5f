from __future__ import annotations

from typing import Any

import pytest
from tg_widgets import BudgetGauge
from tg_widgets.budget_gauge import rounded_up, scientific

from tests.widgets.conftest import Wire


def privacy(spent: float = 1.2301, **others: Any) -> dict[str, Any]:
    """A private client's view, with this much spent of 3."""
    return {
        "guarantee": "differential_privacy",
        "mode": "sampled",
        "unit": "example",
        "relation": "add_or_remove_one",
        "accountant": "pld",
        "target_epsilon": 3.0,
        "delta": 1e-5,
        "noise_multiplier": 1.134,
        "max_grad_norm": 1.0,
        "sample_rate": 0.14066,
        "spent_epsilon": spent,
        "reserved_epsilon": 2.9,
        "steps": 128,
        "steps_left": 172,
        "dataset_id": "ds-1",
        "dataset_spent_epsilon": 4.2,
        "dataset_epsilon_cap": 10.0,
        "note": "",
    } | others


def test_a_gauge_says_all_that_makes_its_number_mean_something(wire: Wire) -> None:
    gauge = BudgetGauge(privacy())
    assert gauge.text == "ε 1.24 spent of 3 at δ 1 × 10⁻⁵, after 128 steps, 172 steps left."
    facts = {fact["label"]: fact["value"] for fact in gauge.facts}
    assert facts["Unit"] == "one example"
    assert facts["Relation"] == "add or remove one"
    assert facts["Mode"] == "server-sampled"
    assert facts["Accountant"] == "PLD"
    assert facts["Noise σ"] == "1.13"
    assert facts["Rate q"] == "14.1 %"
    assert facts["Steps left"] == "172"
    assert gauge.face["dataset"]["text"] == "ε 4.20 of 10"


@pytest.mark.parametrize(
    ("spent", "left", "level"),
    [
        (0.0, 300, "calm"),
        (1.79, 100, "calm"),
        (1.81, 100, "watchful"),
        (2.56, 20, "nearly_spent"),
        (2.9, 0, "spent"),
        (3.0, None, "spent"),
    ],
)
def test_the_level_follows_what_is_spent(wire: Wire, spent: float, left: int | None, level: str) -> None:
    assert BudgetGauge(privacy(spent, steps_left=left)).level == level


def test_without_a_guarantee_it_says_so_and_shows_no_number(wire: Wire) -> None:
    gauge = BudgetGauge({"guarantee": "none", "note": "no guarantee"})
    assert gauge.level == "none"
    assert gauge.text.startswith("No privacy guarantee. ")
    assert gauge.face == {}
    assert gauge.facts == []


def test_a_privacy_that_is_not_settled_yet_is_neither_safe_nor_unsafe(wire: Wire) -> None:
    assert BudgetGauge({"guarantee": "unknown"}).level == "empty"


def test_before_there_is_a_client_it_is_empty(wire: Wire) -> None:
    gauge = BudgetGauge()
    assert gauge.level == "empty"
    assert "no training client yet" in gauge.text


def test_it_follows_what_it_is_shown(wire: Wire) -> None:
    gauge = BudgetGauge()
    gauge.show(privacy(2.99, steps_left=0))
    assert gauge.level == "spent"
    assert "no further step is allowed" in gauge.text
    gauge.show(None)
    assert gauge.level == "empty"


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [(0.0, "0.00"), (1.0, "1.00"), (1.0001, "1.01"), (2.999, "3.00"), (0.29, "0.29"), (float("inf"), "∞")],
)
def test_an_epsilon_is_never_shown_smaller_than_it_is(epsilon: float, text: str) -> None:
    assert rounded_up(epsilon) == text


@pytest.mark.parametrize(
    ("delta", "text"), [(1e-5, "1 × 10⁻⁵"), (2.5e-6, "2.5 × 10⁻⁶"), (0, "0"), (None, "–")]
)
def test_a_delta_is_written_as_people_write_it(delta: float | None, text: str) -> None:
    assert scientific(delta) == text
