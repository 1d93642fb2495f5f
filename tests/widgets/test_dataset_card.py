from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from tg_widgets import DatasetCard
from tg_widgets.dataset_card import face_of

from tests.widgets.conftest import EVIL, Wire, wait_for
from tg_workbench import Workbench
from tg_workbench.sdk import Dataset, Job

PROFILE: dict[str, Any] = {
    "columns": [
        {"name": "age", "type": "number", "missing": 3, "minimum": 17.0, "maximum": 93.5, "mean": 50.25},
        {"name": "town", "type": "category", "missing": 0, "values": [f"town {n}" for n in range(20)]},
        {"name": "sick", "type": "category", "missing": 0, "values": ["no", "yes"]},
    ],
    "class_counts": {"no": 30, "yes": 90},
    "warnings": ["column age: 3 rows are missing"],
}
CLINIC = Dataset(
    "ds-1",
    name="a clinic",
    size=1234,
    units=5_717,
    file_size=98_765,
    delta=1e-5,
    epsilon_cap=9.0,
    spent_epsilon=1.2301,
    target="sick",
)


def shown_by(wire: Wire, card: DatasetCard) -> dict[str, Any]:
    """What it shows once it has looked."""
    wire.say(card, {"action": "ready"})
    wait_for(lambda: card.shown.get("columns") or card.shown["connection"] not in ("looking", "connected"))
    return dict(card.shown)


def test_its_owner_sees_what_the_columns_hold_and_that_it_is_not_covered() -> None:
    face = face_of(CLINIC, PROFILE, [])
    assert face["note"] == "for you alone: not covered by ε"
    age, town, sick = face["columns"]
    assert (age["missing"], age["holds"]) == (3, "17 to 93.5, mean 50.25")
    assert town["holds"].endswith("town 11 and 8 more")
    assert sick["is_target"]
    assert face["classes"][0] == {"name": "yes", "count": 90, "share": 0.75}
    assert face["gauge"] == {
        "spent": "1.24",
        "cap": "9",
        "left": "7.76",
        "share": pytest.approx(0.137, abs=0.001),
        "level": "calm",
    }
    assert ["Unit", "one example"] in [fact[:2] for fact in face["facts"]]
    assert "Budget" not in [fact[0] for fact in face["facts"]]


def test_whose_budget_it_shares_is_told_and_why() -> None:
    later = replace(CLINIC, version=2, population="ds-0", population_because="same_name")
    facts = {label: value for label, value, _ in face_of(later, PROFILE, [])["facts"]}
    assert facts["Budget"] == "One budget with ds-0, because it is a new version"


def test_a_published_card_of_protected_data_tells_the_number_of_its_rows_and_nothing_else_of_them() -> None:
    face = face_of(CLINIC, PROFILE, [{"age": 17}], published=True)
    assert face.pop("summary") == ["1,234 rows"]
    assert face["columns"][0] == {"name": "age", "type": "number", "is_target": False}
    assert face["classes"] == [{"name": "no"}, {"name": "yes"}]
    assert (face["preview"], face["warnings"], face["note"]) == ({}, [], "")
    told = [
        number
        for number in ("1234", "1,234", "5717", "5,717", "17", "93", "98", "town 1", "missing")
        if number in repr(face)
    ]
    assert told == []


def test_a_published_card_of_public_data_hides_nothing() -> None:
    town = Dataset("ds-2", name="a town", privacy="public", size=1234)
    face = face_of(town, PROFILE, [{"age": 17, "sick": None}], published=True)
    assert face["columns"][0]["missing"] == 3
    assert face["preview"] == {"columns": ["age", "sick"], "rows": [["17", ""]]}
    assert face["gauge"] == {}


def test_a_card_shows_a_dataset_and_what_is_spent_of_it(
    wire: Wire, workbench: Workbench, clinic: Dataset, private_job: Job
) -> None:
    card = DatasetCard(clinic.id, workbench)
    shown = shown_by(wire, card)
    assert EVIL in shown["name"]
    assert [column["name"] for column in shown["columns"]] == ["age", "smokes", "pressure", "sick"]
    assert float(shown["gauge"]["spent"]) > 2
    assert shown["preview"] == {}
    card.close()


def test_a_published_card_never_sends_what_the_rows_hold(wire: Wire, clinic: Dataset) -> None:
    card = DatasetCard(clinic, published=True)
    shown_by(wire, card)
    said = wire.told(card)
    assert "smokes" in said
    assert "200 rows" in said
    assert not [word for word in ("101.25", "300.25", "missing") if word in said]
    card.close()


def test_a_file_that_is_being_read_becomes_ready_and_a_bad_one_says_where(
    wire: Wire, workbench: Workbench
) -> None:
    bad = pl.DataFrame({"dose": [*map(str, range(40)), "much"], "sick": ["yes", "no"] * 20 + ["no"]})
    said = workbench.datasets.upload(bad, "bad", target="sick", privacy="public", wait=False, progress=False)
    card = DatasetCard(said)
    wire.say(card, {"action": "ready"})
    wait_for(lambda: card.shown.get("status") == "failed")
    assert card.shown["problem_with"]["where"] == "Row 41, column dose"
    assert card.shown["problem_with"]["text"].startswith("Is not a number")
    card.close()


def test_a_card_finds_a_dataset_by_its_name(wire: Wire, workbench: Workbench) -> None:
    rows = pl.DataFrame({"dose": range(40), "sick": ["yes", "no"] * 20})
    known = workbench.datasets.upload(rows, "by its name", target="sick", privacy="public")
    card = DatasetCard("by its name", workbench)
    wire.say(card, {"action": "ready"})
    wait_for(lambda: card.shown.get("status") == "ready")
    assert (card.shown["id"], card.shown["name"]) == (known.id, "by its name")
    card.close()


def test_a_dataset_that_is_there_no_more_is_gone(wire: Wire, workbench: Workbench) -> None:
    card = DatasetCard("ds-00000000-0000-4000-8000-000000000000", workbench)
    wire.say(card, {"action": "ready"})
    wait_for(lambda: card.shown["connection"] == "gone")
    assert card.shown["problem"]
    card.close()
