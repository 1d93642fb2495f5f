"""Where raw values of protected rows can be found after a run: in the curator's answers, and nowhere else.

The run's raw losses and norms, and the rows themselves, are looked for in every file, table, event and answer
that it left behind. Floating-point numbers of fifteen digits do not come up by chance.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import pytest

from tests.workbench_server import WorkbenchServer
from tg_workbench import Privacy, TrainingClient, Workbench

CURATORS = {
    ("events", "data"),
    ("operations", "result"),
    ("operations", "progress"),
    ("training_clients", "dp_metrics"),
    ("artifacts", "dp_metrics"),
}
"""Columns that answer the dataset's owner, and that nothing else is made from."""


class Traces:
    """A private run and what it left behind."""

    def __init__(self, server: WorkbenchServer) -> None:
        generator = np.random.default_rng(11)
        self.features = generator.normal(size=(64, 4)).astype(np.float32)
        with Workbench(socket=str(server.socket), api_key=server.api_key) as workbench:
            rows = workbench.datasets.upload(
                "ward", features=self.features, targets=(self.features.sum(1) > 0).astype(np.int64)
            )
            client = workbench.create_training_client(
                "mlp",
                dataset=rows,
                batch_size=16,
                max_steps=30,
                privacy=Privacy(target_epsilon=3.0, noisy_loss_bound=2.0),
            )
            client.train(steps=10, progress=False).result(60)
            step = client.forward_backward(dataset=rows).result(60)
            taken = client.optim_step().result(60)
            client.save_state()
            self.audit = workbench.audit(client, "lira", twins=6)
            self.events = _told(client, steps=11)
            self.view = client.refresh()
            self.client_id, self.dataset_id = client.id, rows.id
            client.terminate()
        points = [data["points"] for data in self.events if "points" in data]
        self.noisy = [loss for each in points for loss in each["noisy_loss"]]
        self.raw = {loss for each in points for loss in each["loss"] if loss is not None}
        self.raw |= {step.loss, step.grad_norm}
        assert taken.dp_metrics is not None
        self.raw |= {taken.dp_metrics.grad_norm_before_clip, taken.dp_metrics.grad_norm_after_clip}
        self.audited = {self.audit.auc, self.audit.tpr_at_fpr_1_percent, self.audit.epsilon_lower_bound}
        self.audited = {value for value in self.audited if value and value != round(value, 6)}
        self.raw |= self.audited
        self.raw = {value for value in self.raw if value is not None and value != round(value, 6)}

    def of_this_run(self, text: str) -> list[str]:
        """Raw values, and rows, that occur in a text."""
        found = [repr(value) for value in self.raw if repr(value) in text]
        return found + [repr(value) for value in self.features.ravel().tolist() if repr(value) in text]


def _told(client: TrainingClient, steps: int) -> list[Mapping[str, Any]]:
    """The client's events, once they tell of so many steps: that comes a moment after the steps."""
    deadline = time.monotonic() + 30.0
    while True:
        told = [event.data for event in client.history()]
        if sum(len(data["points"]["step"]) for data in told if "points" in data) == steps:
            return told
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server() -> Iterator[WorkbenchServer]:
    server = WorkbenchServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def traces(server: WorkbenchServer) -> Traces:
    return Traces(server)


def test_there_is_something_to_be_found(traces: Traces) -> None:
    assert len(traces.raw) >= 10
    assert len(traces.noisy) == 11
    assert traces.of_this_run(json.dumps(traces.events)), "the curator's events hold the raw losses"


def test_an_audit_of_rows_answers_its_curator_alone(traces: Traces) -> None:
    assert not traces.audit.covered_by_epsilon
    assert "NOT covered by ε" in traces.audit._repr_html_()
    assert traces.audited
    told = json.dumps(traces.events) + repr(traces.view)
    assert [value for value in traces.audited if repr(value) in told] == []


def test_the_noisy_losses_are_not_the_raw_ones(traces: Traces) -> None:
    assert all(loss is not None for loss in traces.noisy), "an empty batch has a noisy loss too"
    assert not traces.raw.intersection(traces.noisy)
    assert not traces.of_this_run(json.dumps(traces.noisy))


def test_no_log_holds_a_raw_value(traces: Traces, server: WorkbenchServer) -> None:
    logs = [path for path in server.home.rglob("*.log*") if path.is_file()]
    assert server.log in logs
    assert any(path.name == "workers.log" for path in logs)
    for path in logs:
        assert traces.of_this_run(path.read_text(errors="replace")) == [], path


def test_no_table_but_the_curators_holds_a_raw_value(traces: Traces, server: WorkbenchServer) -> None:
    with sqlite3.connect(server.home / "tgsp.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {table for table, _ in CURATORS} <= set(tables)
        for table in tables:
            rows = database.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - the database's own names
            columns = [description[0] for description in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    if (table, column) not in CURATORS:
                        assert traces.of_this_run(str(value)) == [], (table, column)


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/ready",
        "/workbench/v1/datasets",
        "/workbench/v1/datasets/{dataset}",
        "/workbench/v1/ledger?dataset_id={dataset}",
        "/workbench/v1/ledger?training_client_id={client}",
        "/api/v1/training_clients",
    ],
)
def test_no_answer_that_is_not_a_metric_holds_a_raw_value(
    traces: Traces, server: WorkbenchServer, path: str
) -> None:
    with server.client() as client:
        answer: httpx.Response = client.get(path.format(client=traces.client_id, dataset=traces.dataset_id))
    assert answer.status_code == 200
    said: Any = answer.json()
    for view in said.get("training_clients", []) if isinstance(said, dict) else []:
        view.pop("dp_metrics", None)
    assert traces.of_this_run(json.dumps(said)) == []


def test_what_is_charged_is_what_was_planned(traces: Traces, server: WorkbenchServer) -> None:
    """The noisy loss is paid for by the gradient's noise, not by more ε."""
    with server.client() as client:
        ledger = client.get("/workbench/v1/ledger", params={"training_client_id": traces.client_id}).json()
    planned = traces.view.privacy.noise_multiplier
    assert {event["noise_multiplier"] for event in ledger["events"]} == {planned}
    assert traces.view.privacy.noisy_loss_bound == 2.0
    assert ledger["spent_epsilon"] == traces.view.privacy.spent_epsilon
