"""Whom ε is about: rows that say whose they are, in datasets and in batches of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sdk.conftest import NewClient, Rows
from tg_workbench import BudgetExhausted, InvalidBatch, InvalidRequest, Privacy, PrivacyRefused, Workbench
from tg_workbench.privacy import epsilon
from tg_workbench.sdk import Dataset

PATIENTS = [f"patient {number % 50}" for number in range(200)]
"""Fifty people with four rows each."""
SHIFTS = iter(range(1, 1000))


@pytest.fixture
def people(rows: Rows) -> Rows:
    """Rows that are in no other dataset."""
    return {**rows, "features": rows["features"] + np.float32(next(SHIFTS) / 256)}


@pytest.fixture
def grouped(workbench: Workbench, people: Rows) -> Dataset:
    return workbench.datasets.upload(f"visits {next(SHIFTS)}", **people, unit_ids=PATIENTS, unit="patient")


def alone(noise: float, steps: int) -> float:
    return epsilon(noise_multiplier=noise, sample_rate=1.0, steps=steps, delta=1e-5)


# ----------------------------------------------------------------------------- datasets
def test_people_are_drawn_whole_and_their_epsilon_is_about_them(
    new_client: NewClient, grouped: Dataset, rows: Rows
) -> None:
    assert (grouped.units, grouped.unit, grouped.size) == (50, "patient", 200)
    assert "50 units (patient)" in str(grouped)
    client = new_client(dataset=grouped, target_epsilon=4.0, max_steps=20, batch_size=20)
    result = client.train(steps=20, progress=False).result(timeout=240)
    assert (result.steps_done, result.privacy.unit) == (20, "patient")
    assert result.privacy.sample_rate == pytest.approx(20 / 50)  # people, not rows
    assert "per patient" in str(result.privacy)


def test_the_same_rows_have_one_budget_and_one_unit(workbench: Workbench, people: Rows) -> None:
    first = workbench.datasets.upload("the first", **people, unit_ids=PATIENTS)
    called = [f"p{name}" for name in PATIENTS]
    again = workbench.datasets.upload("the same", **people, unit_ids=called)
    assert again.population == first.population
    with pytest.raises(PrivacyRefused, match="is the unit, as it was called then"):
        workbench.datasets.upload("the same", **people, unit_ids=called, unit="patient")
    with pytest.raises(PrivacyRefused, match="cannot be about both"):
        workbench.datasets.upload("by row", **people)
    with pytest.raises(PrivacyRefused, match="about other units"):
        workbench.datasets.upload("by day", **people, unit_ids=[number % 7 for number in range(200)])
    with pytest.raises(PrivacyRefused, match="cannot be public"):
        workbench.datasets.upload("open", **people, privacy="public")


def test_another_dataset_about_the_same_people_has_their_unit(
    workbench: Workbench, grouped: Dataset, people: Rows
) -> None:
    other = {**people, "features": people["features"] + 100}
    with pytest.raises(PrivacyRefused, match="Give unit_ids"):
        workbench.datasets.upload("later visits", **other, population=grouped)
    with pytest.raises(PrivacyRefused, match="is the patient, as it was called then"):
        workbench.datasets.upload(
            "by ward", **other, population=grouped, unit_ids=[n % 3 for n in range(200)], unit="ward"
        )
    joined = workbench.datasets.upload("later visits", **other, population=grouped, unit_ids=PATIENTS)
    assert (joined.population, joined.unit) == (grouped.population, "patient")


@pytest.mark.parametrize(
    ("ids", "more", "words"),
    [
        ([1.5] * 200, {}, "whole numbers of 64 bits or texts"),
        (list(range(199)), {}, "same number of rows"),
        (None, {"unit": "patient"}, "a unit needs unit_ids"),
        (PATIENTS, {"unit": "<b>"}, "unit"),
    ],
)
def test_units_nobody_can_tell_are_refused(
    workbench: Workbench, people: Rows, ids: Any, more: dict[str, Any], words: str
) -> None:
    with pytest.raises((InvalidBatch, InvalidRequest), match=words):
        workbench.datasets.upload("nobody's visits", **people, unit_ids=ids, **more)


def test_texts_have_authors(workbench: Workbench, new_client: NewClient) -> None:
    texts = [f"a note, number {number}, by hand" for number in range(12)]
    authors = [f"author {number % 4}" for number in range(12)]
    dataset = workbench.datasets.upload("notes", texts=texts, unit_ids=authors, unit="author")
    assert (dataset.units, dataset.size) == (4, 12)
    client = new_client(
        "tiny-llama", lora_rank=2, dataset=dataset, noise_multiplier=4.0, max_steps=2, batch_size=2
    )
    assert client.train(steps=2, progress=False).result(timeout=240).privacy.unit == "author"


def test_what_a_dataset_cannot_be_counted_by_is_refused(
    new_client: NewClient, grouped: Dataset, dataset: Dataset
) -> None:
    def ask(of: Dataset, **privacy: Any) -> None:
        new_client(dataset=of, privacy=Privacy(noise_multiplier=4.0, **privacy), max_steps=2, batch_size=10)

    with pytest.raises(PrivacyRefused, match="is the patient"):
        ask(grouped, unit="example")
    with pytest.raises(PrivacyRefused, match="is the example"):
        ask(dataset, unit="unit")
    with pytest.raises(InvalidRequest, match="opacus-ghost cannot clip"):
        ask(grouped, engine="opacus-ghost")
    with pytest.raises(InvalidRequest, match="max_participations is for rows"):
        ask(dataset, max_participations=3)
    with pytest.raises(InvalidRequest, match="audit_canaries are single examples"):
        new_client(dataset=grouped, max_steps=2, batch_size=10, audit_canaries=30)


def test_people_are_audited_by_the_mechanism_and_not_by_row(
    workbench: Workbench, new_client: NewClient, grouped: Dataset
) -> None:
    client = new_client(dataset=grouped, target_epsilon=4.0, max_steps=5, batch_size=20)
    found = workbench.audit(client, method="mechanism", canaries=500)
    assert 0 <= found.epsilon_lower_bound <= (found.epsilon or 0.0)
    with pytest.raises(InvalidRequest, match="of units"):
        workbench.audit(client, method="lira")


# ----------------------------------------------------------------------------- batches of one's own
def test_a_step_counts_for_those_who_were_in_it(new_client: NewClient, rows: Rows) -> None:
    client = new_client(privacy=Privacy(noise_multiplier=5.0, target_epsilon=1.2, unit="record"))
    spent = []
    for begin in (0, 50, 100, 150, 0):  # everybody once, then the first fifty again
        part = slice(begin, begin + 50)
        ids = [f"record {number}" for number in range(begin, begin + 50)]
        client.forward_backward(
            features=rows["features"][part], targets=rows["targets"][part], record_ids=ids
        ).result()
        client.optim_step().result()
        spent.append(client.privacy.spent_epsilon)
    assert spent == pytest.approx([alone(5.0, 1)] * 4 + [alone(5.0, 2)], rel=1e-9)
    assert client.privacy.steps_left == 0  # of the first fifty: alone(5, 3) is above 1.2
    with pytest.raises(BudgetExhausted, match="most used record is spent"):
        client.forward_backward(
            features=rows["features"][:10], targets=rows["targets"][:10], record_ids=ids[:10]
        ).result()
    fresh = {"features": rows["features"][:5], "targets": rows["targets"][:5]}
    client.forward_backward(**fresh, record_ids=["somebody", "else", 3, 4, 5]).result()  # others go on
    client.optim_step().result()
    assert client.privacy.spent_epsilon == spent[-1]


def test_who_was_in_which_step_is_known_after_a_checkpoint(new_client: NewClient, rows: Rows) -> None:
    privacy = Privacy(noise_multiplier=5.0, unit="record")
    first, second = new_client(privacy=privacy), new_client(privacy=privacy)
    ids = list(range(20))
    for client, steps in ((first, 2), (second, 1)):
        for _ in range(steps):
            few = {"features": rows["features"][:20], "targets": rows["targets"][:20]}
            client.forward_backward(**few, record_ids=ids).result()
            client.optim_step().result()
    second.load_state(first.save_state())
    assert second.privacy.spent_epsilon == pytest.approx(alone(5.0, 3), rel=1e-9)


def test_people_are_clipped_whole_and_come_once_per_step(new_client: NewClient, rows: Rows) -> None:
    client = new_client(privacy=Privacy(target_epsilon=3.0, max_participations=4, unit="unit"), batch_size=5)
    twenty = {"features": rows["features"][:20], "targets": rows["targets"][:20]}
    client.forward_backward(**twenty, unit_ids=[number % 5 for number in range(20)]).result()
    with pytest.raises(InvalidBatch, match="a unit came twice"):
        client.forward_backward(features=rows["features"][20:22], targets=[0, 1], unit_ids=[9, 4]).result()
    client.optim_step().result()
    told = client.privacy
    assert (told.unit, told.max_participations, told.steps_left) == ("unit", 4, 3)
    assert told.reserved_epsilon == pytest.approx(3.0, rel=1e-3)


def test_epsilon_about_rows_and_epsilon_about_people_are_not_mixed(new_client: NewClient, rows: Rows) -> None:
    by_row = new_client(privacy=Privacy(noise_multiplier=5.0))
    by_row.forward_backward(**rows).result()
    by_row.optim_step().result()
    by_person = new_client(privacy=Privacy(noise_multiplier=5.0, unit="unit"))
    with pytest.raises(PrivacyRefused, match="no one number would be true of both"):
        by_person.load_state(by_row.save_state())
    without = new_client()
    without.load_state(by_row.save_state())
    with pytest.raises(PrivacyRefused, match="no one number would be true of both"):
        by_person.load_state(without.save_state())


@pytest.mark.parametrize(
    ("privacy", "words"),
    [
        (Privacy(target_epsilon=3.0, unit="record"), "max_participations must be known"),
        (Privacy(noise_multiplier=1.0, max_participations=3), "those who have ids"),
        (Privacy(noise_multiplier=1.0, unit="unit", engine="opacus-ghost"), "cannot clip the sum"),
        (Privacy(noise_multiplier=1.0, truncated_batch_size=9), "needs a dataset_id"),
        (Privacy(noise_multiplier=1.0, unit="patient"), "unit"),
    ],
)
def test_what_cannot_be_counted_is_refused(new_client: NewClient, privacy: Privacy, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        new_client(privacy=privacy)


def test_ids_where_nobody_counts_by_them_are_refused(new_client: NewClient, rows: Rows) -> None:
    client = new_client(privacy=Privacy(noise_multiplier=5.0))
    with pytest.raises(InvalidBatch, match="about the example, and the batch brings other ids"):
        client.forward_backward(**rows, unit_ids=PATIENTS).result()


# ----------------------------------------------------------------------------- batches that are cut
def test_a_larger_draw_is_cut_and_its_epsilon_says_so(
    workbench: Workbench, new_client: NewClient, people: Rows
) -> None:
    dataset = workbench.datasets.upload("visits that are cut", **people)
    privacy = Privacy(noise_multiplier=4.0, truncated_batch_size=60)
    client = new_client(dataset=dataset, privacy=privacy, max_steps=3, batch_size=50)
    told = client.train(steps=3, progress=False).result(timeout=240).privacy
    assert told.truncated_batch_size == 60
    terms = {"noise_multiplier": 4.0, "sample_rate": 0.25, "steps": 3, "delta": dataset.delta or 0.0}
    cut = epsilon(**terms, truncated_batch_size=60, dataset_size=200)  # type: ignore[arg-type]
    assert told.spent_epsilon == pytest.approx(cut, rel=2e-3)
    assert cut > epsilon(**terms)  # type: ignore[arg-type]
    event = workbench.ledger(dataset=dataset).events[-1]
    assert (event["truncated_batch_size"], event["num_participants"]) == (60, None)
    with pytest.raises(InvalidRequest, match="between batch_size and 200"):
        new_client(dataset=dataset, privacy=privacy, max_steps=3, batch_size=80)
