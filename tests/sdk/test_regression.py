"""Numbers are predicted in their own unit, whatever that is: from a file to an answer, with the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.sdk.conftest import NewClient
from tg_workbench import InvalidRequest, Workbench
from tg_workbench.sdk import Dataset, Job, Service

RANGES: dict[str, Any] = {"size": (20, 220), "rooms": (0, 8), "price": (0, 900_000)}


def houses(seed: int) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    size, rooms = generator.uniform(30, 200, 2000), generator.integers(1, 7, 2000)
    price = 2500 * size + 12_000 * rooms + 60_000 + generator.normal(0, 15_000, 2000)
    return pl.DataFrame({"size": size, "rooms": rooms, "price": price})


@pytest.fixture(scope="module")
def public_houses(workbench: Workbench) -> Dataset:
    """Houses that everybody may see."""
    return workbench.datasets.upload(
        houses(1), "houses for sale", target="price", privacy="public", progress=False
    )


@pytest.fixture(scope="module")
def learned(workbench: Workbench, public_houses: Dataset) -> Job:
    """What the defaults make of them."""
    return workbench.jobs.submit("mlp", public_houses).wait(timeout=240, progress=False)


@pytest.fixture
def service(learned: Job) -> Iterator[Service]:
    """Its model, served."""
    assert learned.model is not None
    service = learned.model.serve("prices").wait()
    yield service
    service.stop()
    service.delete()


def test_the_defaults_learn_numbers_far_from_zero(learned: Job) -> None:
    assert learned.metrics["val_r2"] > 0.9
    assert learned.metrics["val_rmse"] > 1000, "an error is told in the unit of the target"
    assert learned.history["val_loss"][-1] < 0.2, "a loss is told on the scale that is learned on"


def test_a_prediction_is_in_the_unit_of_the_target(learned: Job, service: Service) -> None:
    assert learned.model is not None
    row = {"size": 100, "rooms": 3}
    (said,) = learned.model.predict(row)
    assert said.value == pytest.approx(346_000, rel=0.1)
    (served,) = service.predict(row)
    assert served.value == pytest.approx(said.value, rel=1e-5)
    assert "price, in its own unit" in str(learned.model.card)


def test_private_numbers_are_learned_by_the_range_that_was_declared(workbench: Workbench) -> None:
    people = workbench.datasets.upload(
        houses(2), "houses of patients", target="price", ranges=RANGES, progress=False
    )
    job = workbench.jobs.submit("mlp", people, batch_size=100, target_epsilon=3.0)
    job.wait(timeout=240, progress=False)
    assert job.metrics["val_r2"] > 0.8
    assert (job.privacy.spent_epsilon or 9.0) <= 3.0


def test_a_job_says_that_private_numbers_have_no_range(workbench: Workbench) -> None:
    people = workbench.datasets.upload(houses(3).head(100), "no range", target="price", progress=False)
    job = workbench.jobs.submit("linear", people, epochs=1)
    (warning,) = job.warnings
    assert warning.startswith("column price is learned as it is, for no range was declared")
    assert warning in [line.message for line in job.logs()]


def test_a_training_client_learns_them_on_the_same_scale(
    new_client: NewClient, public_houses: Dataset
) -> None:
    client = new_client("linear", dataset=public_houses, learning_rate=0.1)
    client.train(steps=60, progress=False).result()
    (said,) = client.predict(np.zeros((1, 2), dtype=np.float32))
    assert said.value == pytest.approx(houses(1)["price"].mean(), rel=0.1)


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ("logistic", {}, "linear or mlp"),
        ("mlp", {"loss": "bce"}, "linear or mlp"),
        ("mlp", {"loss": "cross_entropy"}, "use mse"),
        ("mlp", {"class_weights": [1.0, 2.0]}, "no classes"),
    ],
)
def test_what_learns_classes_is_refused_at_once_for_numbers(
    workbench: Workbench, public_houses: Dataset, model: str, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        workbench.jobs.submit(model, public_houses, **more)


def test_what_learns_numbers_is_refused_at_once_for_classes(workbench: Workbench) -> None:
    table = pl.DataFrame({"a": range(60), "y": ["no", "yes"] * 30})
    classes = workbench.datasets.upload(table, "no houses", privacy="public", progress=False)
    with pytest.raises(InvalidRequest, match="cross_entropy"):
        workbench.jobs.submit("mlp", classes, loss="mse")


def test_chances_are_learned_as_yes_or_no_where_they_were_declared(workbench: Workbench) -> None:
    generator = np.random.default_rng(5)
    a = generator.normal(size=400)
    table = pl.DataFrame({"a": a, "chance": 1 / (1 + np.exp(-3 * a))})
    chances = workbench.datasets.upload(
        table, "chances", target="chance", ranges={"chance": (0, 1)}, privacy="public", progress=False
    )
    job = workbench.jobs.submit("logistic", chances, epochs=3).wait(timeout=240, progress=False)
    assert job.status == "completed"
