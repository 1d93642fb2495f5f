"""What a job's figure shows, and what it leaves out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sdk.resources.scripted_server import ScriptedServer, answer
from tg_workbench import Workbench
from tg_workbench.sdk import Job
from tg_workbench.sdk.events import Event
from tg_workbench.sdk.job_curves import MOST_POINTS, Points, curves_of, figure_of
from tg_workbench.sdk.job_views import JobView
from tg_workbench.sdk.values import PrivacyView

RAW = "loss, accuracy and val_… are of protected rows and not covered by ε: for the curator only"
HISTORY = {
    "loss": [0.9, 0.7],
    "accuracy": [0.5, 0.6],
    "val_loss": [1.0, 0.8],
    "val_accuracy": [0.4, None],
    "epsilon": [1.0, 1.5],
    "noisy_loss": [0.8, 0.75],
    "r2": [None, None],
}
POSITION = {"epoch": 2, "total_epochs": 4, "step": 4, "total_steps": 8}
PROMISED = PrivacyView("differential_privacy", "sampled", target_epsilon=3.0, delta=1e-5, spent_epsilon=1.5)


def view(**more: Any) -> JobView:
    told = {"id": "job-1", "name": "first", "status": "running", "training_client_id": "tc-1"}
    return JobView.from_wire({**told, "history": HISTORY, "position": POSITION, "metrics_note": RAW, **more})


def told(*steps: int, **columns: list[float | None]) -> Event:
    return Event(1, "progress", data={"points": {"step": list(steps), **columns}})


def points(*events: Event) -> Points:
    found = Points()
    found.add(events)
    return found


def names(figure: Any) -> list[str]:
    return [line.name for line in figure.data]


def test_losses_measures_and_epsilon_stand_over_the_same_steps() -> None:
    seen = points(told(1, 2, 3, 4, loss=[1.0, 0.9, 0.8, 0.7], epsilon=[0.5, 0.8, 1.2, 1.5]))
    figure = figure_of(view(), PROMISED, seen)
    assert names(figure) == [
        *("loss of each batch", "loss", "loss, held out", "noisy loss"),
        *("accuracy", "accuracy, held out", "ε spent"),
    ]
    by_name = {line.name: line for line in figure.data}
    assert list(by_name["loss, held out"].x) == [2, 4], "where epochs end"
    assert list(by_name["loss, held out"].text) == ["epoch 1", "epoch 2"]
    assert list(by_name["ε spent"].y) == [0.5, 0.8, 1.2, 1.5]
    assert figure.layout.shapes[0].y0 == 3.0, "the budget is a line"
    assert RAW in figure.layout.title.subtitle.text


def test_nothing_raw_of_protected_rows_is_in_a_figure_for_others() -> None:
    seen = points(told(1, loss=[1.0], noisy_loss=[0.9], epsilon=[0.5]))
    figure = figure_of(view(), PROMISED, seen, published=True)
    assert names(figure) == ["noisy loss of each batch", "noisy loss", "ε spent"]
    assert "curator" not in str(figure)
    public = curves_of(view(metrics_note=None), seen, published=True)
    assert "accuracy" in [curve.name for curve in public]


def test_a_step_that_was_taken_again_counts_as_it_was_taken_last() -> None:
    seen = points(told(1, 2, 3, loss=[3.0, 3.0, 3.0]), told(2, 3, loss=[2.0, None]))
    assert seen.of("loss", last=2) == ([1.0, 2.0], [3.0, 2.0], 1)
    assert seen.of("loss", last=9) == ([1.0, 2.0], [3.0, 2.0], 1)


def test_a_long_run_is_told_in_means() -> None:
    steps = range(1, 2 * MOST_POINTS + 1)
    at, means, wide = points(told(*steps, loss=[float(step % 2) for step in steps])).of("loss", max(steps))
    assert (len(at), at[-1], wide, set(means)) == (MOST_POINTS, 2.0 * MOST_POINTS, 2, {0.5})


def test_a_name_is_no_markup() -> None:
    figure = figure_of(view(name="<b>bold</b>", history={}, position={}), PrivacyView(), Points())
    assert "<b>" not in figure.layout.title.text
    assert figure.layout.annotations[0].text == "nothing to show yet"


@pytest.mark.parametrize("published", [False, True])
def test_a_job_draws_itself_from_what_the_workbench_tells(
    server: ScriptedServer, workbench: Workbench, published: bool
) -> None:
    told_of = {"id": "job-1", "status": "completed", "training_client_id": "tc-1", "metrics_note": RAW}
    whole = {**told_of, "history": HISTORY, "position": POSITION}
    page = {"id": 7, "type": "progress", "data": {"points": {"step": [1], "loss": [1.0], "epsilon": [0.1]}}}
    client = {"training_client_id": "tc-1", "privacy": {"guarantee": "differential_privacy"}}
    server.script = [answer(whole, 200), answer({"events": [page]}, 200), answer(client, 200)]
    figure = Job(workbench._connection, JobView("job-1")).plot(published=published)
    assert ("loss of each batch" in names(figure)) is not published
    assert "ε spent" in names(figure)
