"""Whom a dataset is about, and so whose budget it spends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tg_workbench.datasets import Charge, Content, Dataset, Datasets, DatasetSpec, Ledger
from tg_workbench.errors import InvalidRequest, PrivacyRefused
from tg_workbench.identity import Principal
from tg_workbench.storage import Blobs, Database

OWNER = Principal("user-a", "tenant", frozenset())
COLLEAGUE = Principal("user-b", "tenant", frozenset())
LETTERS = [f"letter {number}" for number in range(50)]


@pytest.fixture
def datasets(tmp_path: Path) -> Iterator[Datasets]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    database.migrate()
    with database.write() as session:
        yield Datasets(session, Blobs(tmp_path / "blobs"))
    database.close()


def registered(
    datasets: Datasets, texts: list[str], owner: Principal = OWNER, name: str = "letters", **policy: Any
) -> Dataset:
    content = Content.of_texts(json.dumps(texts).encode())
    return datasets.register(owner, DatasetSpec(name, content, **policy))


def spend(datasets: Datasets, dataset: Dataset) -> None:
    charge = Charge(
        dataset_id=dataset.id, client_id="tc-1", tenant_id="tenant", actor=OWNER.id, operation_id="op-1",
        attempt=0, ordinal=0, mode="sampled", noise_multiplier=1.0, sample_rate=0.1, max_grad_norm=1.0,
        step=1, epsilon_after=1.5,
    )  # fmt: skip
    Ledger(datasets.session).append(charge, dataset.population, 1.5)
    datasets.session.refresh(dataset)


def test_one_more_row_under_the_same_name_is_no_fresh_budget(datasets: Datasets) -> None:
    first = registered(datasets, LETTERS)
    spend(datasets, first)
    second = registered(datasets, [*LETTERS, "one more"])
    assert (second.population, second.population_because) == (first.population, "same_name")
    assert second.spent_epsilon == first.spent_epsilon == 1.5
    datasets.delete(OWNER, first.id, users=0)
    datasets.delete(OWNER, second.id, users=0)
    assert registered(datasets, LETTERS[:40]).spent_epsilon == 1.5


def test_a_name_is_its_owners(datasets: Datasets) -> None:
    first = registered(datasets, LETTERS)
    theirs = registered(datasets, [*LETTERS, "one more"], COLLEAGUE)
    assert theirs.population == theirs.id != first.population
    other = registered(datasets, [*LETTERS, "two more"], name="other letters")
    assert (other.population, other.population_because) == (other.id, "new")


def test_the_newest_version_is_followed(datasets: Datasets) -> None:
    registered(datasets, LETTERS)
    other = registered(datasets, [*LETTERS, "one more"], population="new")
    assert (other.population, other.population_because) == (other.id, "new")
    assert registered(datasets, [*LETTERS, "two more"]).population == other.population
    again = registered(datasets, LETTERS)
    assert again.population != other.population, "these are the rows of the first"
    assert again.population_because == "same_rows"


def test_a_protected_name_never_becomes_public(datasets: Datasets) -> None:
    registered(datasets, LETTERS[:3], privacy="public")
    first = registered(datasets, LETTERS)
    more: dict[str, Any] = {"texts": [*LETTERS, "one more"], "privacy": "public"}
    with pytest.raises(PrivacyRefused, match=f"version 2 of this name, dataset {first.id}, is protected"):
        registered(datasets, **more)
    with pytest.raises(PrivacyRefused, match="another name"):
        registered(datasets, **more, population="new")
    datasets.delete(OWNER, first.id, users=0)
    with pytest.raises(PrivacyRefused, match=r"was protected.*another name"):
        registered(datasets, **more)
    assert registered(datasets, **more, name="open letters").is_ready
    assert registered(datasets, **more, owner=COLLEAGUE).is_ready, "a name is its owner's"


def test_a_name_is_one_however_its_letters_are_put_together(datasets: Datasets) -> None:
    first = registered(datasets, LETTERS, name="Münster")
    again = registered(datasets, LETTERS[:9], name="Mu\u0308nster")
    assert (again.name, again.version, again.population) == (first.name, 2, first.population)


@pytest.mark.parametrize(
    ("policy", "words"), [({"delta": 1e-7}, "delta is fixed"), ({"epsilon_cap": 1.0}, "only be raised")]
)
def test_a_version_that_cannot_share_is_told_both_ways_out(
    datasets: Datasets, policy: dict[str, Any], words: str
) -> None:
    registered(datasets, LETTERS)
    more = [*LETTERS, "one more"]
    with pytest.raises(InvalidRequest, match=f'(?s){words}.*leave it out.*population "new"'):
        registered(datasets, more, **policy)
    assert registered(datasets, more, population="new", **policy).population_because == "new"


def test_delta_of_a_few_is_too_large_for_many(datasets: Datasets) -> None:
    registered(datasets, LETTERS[:5], delta=0.1)
    with pytest.raises(InvalidRequest, match=r"not below 1/N.*leave rows out.*population \"new\""):
        registered(datasets, LETTERS)


def test_rows_of_others_do_not_leave_the_version_before_unspent(datasets: Datasets) -> None:
    here = registered(datasets, LETTERS)
    there = registered(datasets, [*LETTERS, "one more"], name="there")
    with pytest.raises(PrivacyRefused, match=f"{here.id}.*{there.id}.*is in another"):
        registered(datasets, LETTERS, name="there")
    said = registered(datasets, LETTERS, name="there", population=here.id)
    assert (said.population, said.population_because) == (here.id, "named")
