from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from tg_widgets.job_rows import MOST_POINTS, SeenJob, row_of, spelled

from tg_workbench.sdk import Dataset
from tg_workbench.sdk.job_views import JobView
from tg_workbench.sdk.values import PrivacyView

TOWN = Dataset("ds-1", name="a town", privacy="public")
CLINIC = Dataset("ds-2", name="a clinic", privacy="protected")
RAW = {"loss": [0.7123, 0.5123], "val_loss": [0.8123, 0.6123], "val_accuracy": [0.5, 0.8765]}


def seen(status: str = "running", privacy: PrivacyView | None = None, **detail: Any) -> SeenJob:
    """A job in its fourth epoch."""
    listed = JobView(
        "job-1", name="mine", status=status, model="mlp", progress=40, started_at="2026-03-01T10:00:00Z"
    )
    told = {"history": RAW, "position": {"epoch": 4, "total_epochs": 10}, "elapsed_seconds": 65, **detail}
    return SeenJob(listed, replace(listed, **told), privacy, time.monotonic())


def test_a_row_says_how_far_a_job_is_and_how_well_it_goes() -> None:
    row = row_of(seen(estimated_seconds=200.0), TOWN)
    assert (row["epoch"], row["epochs"], row["progress"], row["dataset"]) == (4, 10, 40, "a town")
    assert row["time"] == "1 min 5 s of about 3 min 20 s"
    assert [(curve["label"], curve["last"]) for curve in row["curves"]] == [
        ("val loss", "0.612"),
        ("val accuracy", "0.876"),
    ]
    assert (row["note"], row["epsilon"], row["actions"]) == ("", {"kind": "none"}, ["stop", "log"])


@pytest.mark.parametrize(
    ("status", "actions"),
    [
        ("queued", ["stop", "log"]),
        ("stopping", ["log"]),
        ("completed", ["log"]),
        ("failed", ["restart", "log"]),
        ("cancelled", ["restart", "log"]),
    ],
)
def test_only_what_can_be_done_is_offered(status: str, actions: list[str]) -> None:
    assert row_of(seen(status), TOWN)["actions"] == actions


@pytest.mark.parametrize("dataset", [CLINIC, None], ids=["protected", "unknown"])
def test_a_published_row_of_what_is_not_known_to_be_public_has_nothing_raw(dataset: Dataset | None) -> None:
    job = seen("failed", message="row 7, column age: is odd", history={**RAW, "noisy_loss": [0.9, 0.75]})
    row = row_of(job, dataset, published=True)
    assert [curve["label"] for curve in row["curves"]] == ["loss with noise"]
    assert (row["reason"], row["actions"], row["note"]) == ("", [], "")
    assert not [number for number in ("0.5123", "0.6123", "0.612", "0.876", "age") if number in repr(row)]


def test_the_curator_sees_raw_curves_and_that_they_are_not_covered() -> None:
    row = row_of(seen(), CLINIC)
    assert len(row["curves"]) == 2
    assert row["note"] == "not covered by ε"


def test_a_public_dataset_does_not_open_what_a_note_closes() -> None:
    assert row_of(seen(metrics_note="raw"), TOWN, published=True)["curves"] == []


def test_what_is_spent_is_never_shown_smaller_than_it_is() -> None:
    privacy = PrivacyView("differential_privacy", target_epsilon=3.0)
    job = seen(privacy=privacy)
    job = replace(job, listed=replace(job.listed, epsilon=1.2301))
    assert row_of(job, CLINIC)["epsilon"] == {
        "kind": "spent",
        "spent": "1.24",
        "target": "3",
        "share": pytest.approx(0.41, abs=0.001),
    }
    assert row_of(seen(), CLINIC)["epsilon"] == {"kind": "unknown"}, "no word of a guarantee either way"


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    job = seen(history={"loss": [float(n) for n in range(1000)]})
    (curve,) = row_of(job, TOWN)["curves"]
    assert len(curve["values"]) == MOST_POINTS
    assert (curve["values"][0], curve["values"][-1]) == (0.0, 999.0)


def test_details_are_asked_for_only_when_the_list_has_changed() -> None:
    quiet = seen("completed")
    assert not quiet.is_stale(quiet.listed)
    assert quiet.is_stale(replace(quiet.listed, status="queued"))
    assert SeenJob(quiet.listed).is_stale(quiet.listed)
    live = seen("running")
    assert not live.is_stale(live.listed)
    assert replace(live, seen_at=live.seen_at - 10).is_stale(live.listed)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "under 1 s"), (0.4, "under 1 s"), (59, "59 s"), (65, "1 min 5 s"), (3600 + 125, "1 h 2 min")],
)
def test_a_time_is_spelled_as_people_say_it(seconds: float, text: str) -> None:
    assert spelled(seconds) == text
