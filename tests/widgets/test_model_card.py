from __future__ import annotations

from typing import Any

import pytest
from tg_widgets import ModelCard
from tg_widgets.model_card import face_of

from tests.widgets.conftest import Wire, wait_for
from tg_workbench import Workbench
from tg_workbench.sdk import Dataset, Job, Model
from tg_workbench.sdk.values import PrivacyView

TOWN = Dataset("ds-1", name="a town", privacy="public")
CLINIC = Dataset("ds-1", name="a clinic", privacy="protected")
FIGURES: dict[str, Any] = {"accuracy": 0.8765, "loss": 0.4321, "measured_on": "held-out rows"}
PRIVATE = PrivacyView(
    "differential_privacy", "sampled", accountant="pld", target_epsilon=3.0, delta=1e-5, spent_epsilon=2.5001
)


def model(privacy: PrivacyView, **more: Any) -> Model:
    """A model that learned the dataset ds-1."""
    told: dict[str, Any] = {
        "family": "MLP",
        "version": 2,
        "dataset_id": "ds-1",
        "performance": FIGURES,
        **more,
    }
    return Model("mdl-1", privacy=privacy, **told)


def shown_by(wire: Wire, card: ModelCard) -> dict[str, Any]:
    """What it shows once it has looked."""
    wire.say(card, {"action": "ready"})
    wait_for(lambda: card.shown["connection"] == "connected")
    return dict(card.shown)


def test_the_promise_is_told_whole_and_rounded_against_itself() -> None:
    privacy = face_of(model(PRIVATE), CLINIC)["privacy"]
    assert (privacy["spent"], privacy["target"]) == ("2.51", "3")
    facts = {label: value for label, value, _ in privacy["facts"]}
    assert (facts["δ"], facts["Unit"], facts["Accountant"]) == ("1 × 10⁻⁵", "one example", "PLD")
    assert face_of(model(PrivacyView("none")), TOWN)["privacy"] == {"kind": "none"}


def test_figures_of_protected_rows_are_for_their_owner_and_say_so() -> None:
    face = face_of(model(PRIVATE), CLINIC)
    assert [figure["text"] for figure in face["performance"]] == ["87.6 %", "0.4321"]
    assert face["note"] == "for you alone: not covered by ε"
    assert face_of(model(PrivacyView("none")), TOWN)["note"] == ""


@pytest.mark.parametrize(
    ("privacy", "dataset"),
    [(PRIVATE, CLINIC), (PRIVATE, TOWN), (PrivacyView("none"), CLINIC), (PrivacyView("none"), None)],
    ids=["private", "private on public", "protected", "unknown"],
)
def test_a_published_card_shows_figures_of_data_known_to_be_public_only(
    privacy: PrivacyView, dataset: Dataset | None
) -> None:
    face = face_of(model(privacy), dataset, [model(privacy)], published=True)
    assert (face["performance"], face["is_hidden"], face["export"]) == ([], True, "")
    assert not [number for number in ("87.6", "0.43", "0.8765") if number in repr(face)]


def test_a_published_card_of_public_data_hides_other_versions_that_are_not() -> None:
    mine = model(PrivacyView("none"))
    face = face_of(
        mine, TOWN, [mine, model(PRIVATE), model(PrivacyView("none"), dataset_id="ds-9")], published=True
    )
    assert [figure["text"] for figure in face["performance"]] == ["87.6 %", "0.4321"]
    assert [version["figure"] for version in face["versions"]] == ["Accuracy 87.6 %", "", ""]


def test_a_card_says_what_a_model_is_where_it_comes_from_and_what_it_reads(
    wire: Wire, workbench: Workbench, open_job: Job
) -> None:
    learned = open_job.model
    assert learned is not None
    card = ModelCard(learned)
    assert card.shown["name"] == learned.family, "what is known already is shown at once"
    shown = shown_by(wire, card)
    assert [(each["name"], each["type"], each["holds"]) for each in shown["inputs"]] == [
        ("age", "number", ""),
        ("smokes", "category", "never, often"),
        ("pressure", "number", ""),
    ]
    assert (shown["classes"], shown["privacy"]) == (["no", "yes"], {"kind": "none"})
    assert ["Data set", "a town, version 1"] in shown["lineage"]
    assert learned.id in [version["id"] for version in shown["versions"]]
    learned.alias("production")
    named = ModelCard(f"{learned.family}@production", workbench)
    assert shown_by(wire, named)["aliases"] == ["production"]
    for each in (card, named):
        each.close()


def test_a_published_card_never_sends_figures_of_protected_rows(wire: Wire, private_job: Job) -> None:
    learned = private_job.model
    assert learned is not None
    card = ModelCard(learned, published=True)
    shown = shown_by(wire, card)
    assert next((each["name"], each["holds"]) for each in shown["inputs"]) == ("age", "0 to 120")
    numbers = [value for value in learned.performance.values() if isinstance(value, float)]
    said = wire.told(card)
    assert numbers
    assert not [value for value in numbers if repr(value) in said or f"{value * 100:.1f} %" in said]
    card.close()
