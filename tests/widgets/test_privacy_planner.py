"""The planner: a form that asks the workbench what a run would cost, and shows the newest answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tg_widgets import PrivacyPlanner
from tg_widgets.privacy_planner import question

from tests.widgets.conftest import Wire, wait_for
from tests.workbench_server import WorkbenchServer
from tg_workbench import InvalidRequest, Workbench
from tg_workbench.sdk.datasets import Dataset

FILLED: dict[str, Any] = {
    "dataset_id": "",
    "size": 1000,
    "batch_size": 50,
    "epochs": 5,
    "given": "target_epsilon",
    "target_epsilon": 2.0,
    "noise_multiplier": None,
}


@pytest.fixture(scope="module")
def workbench(workbench_server: WorkbenchServer) -> Iterator[Workbench]:
    with Workbench(socket=str(workbench_server.socket), api_key=workbench_server.api_key) as workbench:
        yield workbench


@pytest.fixture(scope="module")
def ward(workbench: Workbench) -> Dataset:
    generator = np.random.default_rng(23)
    features = generator.normal(size=(300, 4)).astype(np.float32)
    targets = (features.sum(axis=1) > 0).astype(np.int64)
    return workbench.datasets.upload(
        "ward of the planner", features=features, targets=targets, epsilon_cap=1.0
    )


def asked(planner: PrivacyPlanner, wire: Wire, **values: Any) -> dict[str, Any]:
    """What the page asks, and the answer it is shown."""
    before = planner._form.answer
    wire.say(planner._form, {"action": "plan", "values": {**FILLED, **values}})
    wait_for(
        lambda: planner._form.answer is not before and not planner._form.answer.get("is_computing", True)
    )
    return dict(planner._form.answer)


def test_a_plan_is_answered_in_a_sentence_and_drawn(wire: Wire, workbench: Workbench) -> None:
    planner = PrivacyPlanner(workbench=workbench)
    answer = asked(planner, wire)
    assert planner.plan is not None
    assert planner.plan.steps == 100
    assert planner.plan.epsilon is not None
    assert 1.9 < planner.plan.epsilon <= 2.0
    assert answer["problem"] == ""
    assert f"100 steps at σ = {planner.plan.noise_multiplier:g}" in answer["text"]
    assert planner.curve.points("now")[-1] == (100, planner.plan.epsilon)
    assert planner.curve.points("further")[-1][0] == 150
    assert planner.curve.marks == [{"x": 100, "label": "100 steps", "tone": "teal"}]


def test_the_plan_before_stays_beside_the_new_one(wire: Wire, workbench: Workbench) -> None:
    planner = PrivacyPlanner(workbench=workbench)
    asked(planner, wire)
    first = planner.curve.points("now")
    asked(planner, wire, given="noise_multiplier", noise_multiplier=2.5)
    assert planner.curve.points("before") == first
    assert planner.plan is not None
    assert planner.plan.noise_multiplier == 2.5


def test_a_dataset_that_cannot_pay_for_it_says_so(wire: Wire, workbench: Workbench, ward: Dataset) -> None:
    planner = PrivacyPlanner(ward, workbench)
    wire.say(planner._form, {"action": "ready"})
    wait_for(lambda: ward.dataset_id in {row["id"] for row in planner._form.datasets})
    answer = asked(planner, wire, dataset_id=ward.dataset_id, given="noise_multiplier", noise_multiplier=0.6)
    assert answer["plan"]["fits"] is False
    assert "cap of 1 allows" in answer["text"]
    assert workbench.datasets.get(ward.dataset_id).spent_epsilon == 0.0, "asking spends nothing"


def test_a_planner_finds_a_dataset_by_its_name(wire: Wire, workbench: Workbench, ward: Dataset) -> None:
    planner = PrivacyPlanner(ward.name, workbench)
    wire.say(planner._form, {"action": "ready"})
    wait_for(lambda: bool(planner._form.datasets))
    assert planner._form.chosen == workbench.datasets[ward.name].id
    lost = PrivacyPlanner("of nobody", workbench)
    wire.say(lost._form, {"action": "ready"})
    wait_for(lambda: "no dataset of nobody" in lost._form.answer.get("problem", ""))


def test_of_many_changes_the_newest_is_answered(wire: Wire, workbench: Workbench) -> None:
    planner = PrivacyPlanner(workbench=workbench)
    for batch_size in range(20, 40):
        wire.say(planner._form, {"action": "plan", "values": {**FILLED, "batch_size": batch_size}})
    wait_for(lambda: planner.plan is not None and planner.plan.sample_rate == 39 / 1000)
    wait_for(lambda: not planner._is_working)
    assert planner.plan is not None
    assert planner.plan.sample_rate == 39 / 1000


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": None}, "Examples must be a number above zero."),
        ({"size": 10.5}, "Examples must be a whole number."),
        ({"batch_size": 0}, "Batch size must be a number above zero."),
        ({"epochs": -1}, "Passes must be a number above zero."),
        ({"target_epsilon": None}, "Target ε must be a number above zero."),
        ({"given": "noise_multiplier"}, "Noise multiplier must be a number above zero."),
        ({"given": "luck"}, "Give a target ε or a noise multiplier."),
        ({"dataset_id": "ds-of-nobody"}, "There is no dataset with this id."),
    ],
)
def test_what_cannot_be_planned_is_said(
    wire: Wire, workbench: Workbench, values: dict[str, Any], said: str
) -> None:
    planner = PrivacyPlanner(workbench=workbench)
    answer = asked(planner, wire, **values)
    assert answer["problem"] == said
    assert planner.plan is None


def test_what_the_page_makes_up_is_ignored(wire: Wire, workbench: Workbench) -> None:
    planner = PrivacyPlanner(workbench=workbench)
    for content in ({}, {"action": "plan"}, {"action": "plan", "values": 7}, {"action": "burn"}):
        wire.say(planner._form, content)
    assert planner.plan is None
    assert planner._form.answer == {}


def test_without_a_workbench_it_says_how_to_start_one(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TG_SOCKET", raising=False)
    planner = PrivacyPlanner()
    assert "workbench" in asked(planner, wire)["problem"].lower()


def test_a_form_means_the_arguments_of_plan_privacy() -> None:
    assert question(FILLED) == {"size": 1000, "batch_size": 50, "epochs": 5.0, "target_epsilon": 2.0}
    with pytest.raises(InvalidRequest, match="Passes"):
        question({**FILLED, "epochs": True})
