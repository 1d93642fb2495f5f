from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tg_widgets import TrainingPanel
from tg_widgets.panel_part import PanelPart
from tg_widgets.training_panel import creation

from tests.widgets.conftest import Wire, wait_for
from tests.workbench_server import WorkbenchServer
from tg_workbench import InvalidRequest, Privacy, PrivacyRefused, Workbench
from tg_workbench.sdk.datasets import Dataset


@pytest.fixture(scope="module")
def workbench(workbench_server: WorkbenchServer) -> Iterator[Workbench]:
    with Workbench(socket=str(workbench_server.socket), api_key=workbench_server.api_key) as workbench:
        yield workbench


@pytest.fixture(scope="module")
def patients(workbench: Workbench) -> Dataset:
    random = np.random.default_rng(7)
    features = random.normal(size=(256, 4)).astype("float32")
    return workbench.datasets.upload(
        "patients", features=features, targets=(features.sum(axis=1) > 0).astype("int64")
    )


@pytest.fixture
def panel(wire: Wire, workbench: Workbench) -> Iterator[TrainingPanel]:
    """A panel on a page, with a form for a new client and no other client to follow."""
    for client in workbench.training_clients.list():
        client.terminate()
    panel = TrainingPanel(workbench=workbench)
    panel._bar._act("ready", {})
    wait_for(lambda: panel._bar.now["connection"] == "connected")
    panel._bar._act("new", {})
    yield panel
    panel.close()


def details(panel: TrainingPanel) -> PanelPart:
    assert panel._details is not None
    return panel._details


def status(panel: TrainingPanel) -> str:
    return str(panel._bar.now["status"])


def form(patients: Dataset, **others: Any) -> dict[str, Any]:
    return {
        "model_ref": "mlp",
        "dataset_id": patients.dataset_id,
        "steps": 60,
        "batch_size": 32,
        "learning_rate": 0.01,
        "target_epsilon": 3,
        "max_grad_norm": 1,
    } | others


def test_a_panel_opens_without_a_workbench_and_says_how_to_get_one(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("TG_")]:
        monkeypatch.delenv(name)
    panel = TrainingPanel()
    assert panel._bar.now["connection"] == "looking"
    wire.say(panel._bar, {"action": "ready"})
    wait_for(lambda: panel._bar.now["connection"] == "unreachable")
    assert "make lab" in panel._bar.now["connection_text"]
    panel.close()


def test_making_and_showing_a_panel_creates_nothing(wire: Wire, workbench: Workbench) -> None:
    before = len(workbench.training_clients.list())
    threads = set(threading.enumerate())
    panel = TrainingPanel(workbench=workbench, read_only=True)
    assert set(threading.enumerate()) <= threads
    panel._bar._act("ready", {})
    wait_for(lambda: panel._bar.now["connection"] == "connected")
    assert len(workbench.training_clients.list()) == before
    panel.close()


def test_a_client_is_created_trained_saved_loaded_and_terminated(
    panel: TrainingPanel, patients: Dataset
) -> None:
    details(panel)._act("create", form(patients))
    wait_for(lambda: "train" in panel._bar.now["actions"])
    panel._bar._act("train", {"steps": 40})
    wait_for(lambda: panel._bar.now["notice"] == "The run is over, after 40 steps.")
    assert [x for x, _ in panel.curve.points("loss")] == list(range(1, 41))
    assert panel.curve.note == "raw loss: not covered by ε"
    assert panel.gauge.level in ("watchful", "nearly_spent")
    panel._bar._act("save", {})
    wait_for(lambda: any(not row["automatic"] for row in details(panel).lists["checkpoints"]))
    saved = next(row for row in details(panel).lists["checkpoints"] if not row["automatic"])
    panel._bar._act("train", {"steps": 10})
    wait_for(lambda: panel._bar.now["step"] == 50 and status(panel) == "ready")
    details(panel)._act("load", {"artifact_id": saved["id"]})
    wait_for(lambda: panel._bar.now["step"] == 40)
    panel._bar._act("terminate", {})
    wait_for(lambda: status(panel) == "terminated")
    assert panel._bar.now["actions"] == ["create"]


def test_pause_and_stop_answer_within_a_second_while_a_run_goes_on(
    panel: TrainingPanel, patients: Dataset
) -> None:
    details(panel)._act("create", form(patients, steps=20_000))
    wait_for(lambda: "train" in panel._bar.now["actions"])
    panel._bar._act("train", {"steps": 20_000})
    wait_for(lambda: panel._bar.now["is_training"])

    def seconds_until(wanted: str, after: str) -> float:
        asked = time.monotonic()
        panel._bar._act(after, {})
        wait_for(lambda: status(panel) == wanted)
        return time.monotonic() - asked

    def pauses() -> Iterator[float]:
        for _ in range(5):
            yield seconds_until("paused", after="pause")
            seconds_until("busy", after="resume")

    def stops() -> Iterator[float]:
        for _ in range(5):
            yield seconds_until("ready", after="stop")
            panel._bar._act("train", {"steps": 1000})
            wait_for(lambda: panel._bar.now["is_training"])

    assert any(seconds < 1.0 for seconds in pauses())  # others may be at work on the machine
    seconds_until("busy", after="resume")
    assert any(seconds < 1.0 for seconds in stops())
    panel._bar._act("terminate", {})
    wait_for(lambda: status(panel) == "terminated")


def test_it_follows_a_client_that_a_cell_creates_and_trains(
    panel: TrainingPanel, workbench: Workbench, patients: Dataset
) -> None:
    client = workbench.create_training_client("mlp", dataset=patients, batch_size=32, max_steps=30)
    wait_for(lambda: panel.client is not None and panel.client.id == client.id)
    client.train(steps=30, progress=False).result(120)
    wait_for(lambda: panel._bar.now["step"] == 30)
    assert len(panel.curve.points("epsilon")) == 30
    client.terminate()
    wait_for(lambda: status(panel) == "terminated")


def test_a_panel_made_later_shows_the_run_from_its_beginning(
    wire: Wire, workbench: Workbench, patients: Dataset
) -> None:
    client = workbench.create_training_client("mlp", dataset=patients, batch_size=32, max_steps=20)
    client.train(steps=20, progress=False).result(120)
    panel = TrainingPanel(workbench.attach(client.id))
    wait_for(lambda: len(panel.curve.points("loss")) == 20)
    wait_for(lambda: panel.gauge.privacy is not None and panel.gauge.privacy["steps"] == 20)
    panel.close()
    client.terminate()


def test_a_published_panel_sends_no_loss_no_reason_and_takes_no_orders(
    wire: Wire, workbench: Workbench, patients: Dataset
) -> None:
    client = workbench.create_training_client("mlp", dataset=patients, batch_size=32, max_steps=20)
    panel = TrainingPanel(client, workbench, published=True)
    wire.say(panel.curve, {"type": "ready"})
    client.train(steps=20, progress=False).result(120)
    wait_for(lambda: len(panel.curve.points("epsilon")) == 20)
    losses = [name for content, _ in wire.sent(panel.curve) for name in content["series"] if name == "loss"]
    assert losses == []
    panel._bar._act("terminate", {})
    panel._bar._act("attach", {"client_id": "tc-other"})
    evaluation = client.evaluate(features=[[0.0] * 4], targets=[0])
    with pytest.raises(PrivacyRefused, match="public=True"):
        panel.show_evaluation(evaluation)
    panel.show_evaluation(evaluation, public=True)
    wait_for(lambda: len(panel.curve.points("public_loss")) == 1)
    assert client.status == "ready"
    assert panel._bar.lists["clients"] == []
    assert panel._details is None, "nothing on the page could be asked for the rest"
    assert (panel._lookout.seen.datasets, panel._lookout.seen.checkpoints) == ([], [])
    panel.close()
    client.terminate()


def test_a_published_panel_shows_the_loss_that_noise_covers(
    wire: Wire, workbench: Workbench, patients: Dataset
) -> None:
    privacy = Privacy(target_epsilon=3.0, noisy_loss_bound=2.0)
    client = workbench.create_training_client(
        "mlp", dataset=patients, batch_size=32, max_steps=20, privacy=privacy
    )
    panel = TrainingPanel(client, workbench, published=True)
    wire.say(panel.curve, {"type": "ready"})
    client.train(steps=20, progress=False).result(120)
    wait_for(lambda: len(panel.curve.points("noisy_loss")) == 20)
    told = [points for event in client.history() if (points := event.data.get("points"))]
    noisy = [loss for points in told for loss in points["noisy_loss"]]
    assert [loss for _, loss in panel.curve.points("noisy_loss")] == noisy
    assert not {loss for points in told for loss in points["loss"]}.intersection(noisy)
    sent = {name for content, _ in wire.sent(panel.curve) for name in content["series"]}
    assert "loss" not in sent
    panel.close()
    client.terminate()


def test_what_the_workbench_refuses_is_said_in_a_sentence(panel: TrainingPanel, patients: Dataset) -> None:
    details(panel)._act("create", form(patients, model_ref="resnet9000"))
    wait_for(lambda: panel._bar.now["error"])
    assert panel._bar.now["error"].startswith("There is no such model: use one of ")
    panel._bar._act("dismiss", {})
    wait_for(lambda: not panel._bar.now["error"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", None, "Steps must be a number above zero"),
        ("steps", 1.5, "Steps must be a whole number"),
        ("batch_size", 0, "Batch size must be a number above zero"),
        ("learning_rate", -1, "Learning rate must be a number above zero"),
        ("target_epsilon", "3", "Target ε must be a number above zero"),
        ("max_grad_norm", float("nan"), "Clipping norm must be a number above zero"),
        ("model_ref", "  ", "choose a model"),
    ],
)
def test_a_form_that_cannot_be_meant_names_its_field(field: str, value: Any, message: str) -> None:
    values = {
        "model_ref": "mlp",
        "steps": 10,
        "batch_size": 8,
        "learning_rate": 0.1,
        "target_epsilon": 3,
        "max_grad_norm": 1,
    }
    with pytest.raises(InvalidRequest, match=message):
        creation(values | {field: value})


def test_public_data_are_trained_on_without_asking_for_privacy() -> None:
    asked = creation(
        {"model_ref": "mlp", "steps": 10, "batch_size": 8, "learning_rate": 0.1, "private": False}
    )
    assert "target_epsilon" not in asked


def test_a_second_click_spends_nothing(panel: TrainingPanel, workbench: Workbench, patients: Dataset) -> None:
    before = {client.id for client in workbench.training_clients.list(limit=1000)}
    for _ in range(2):
        details(panel)._act("create", form(patients))
    wait_for(lambda: "train" in panel._bar.now["actions"])
    assert len({client.id for client in workbench.training_clients.list(limit=1000)} - before) == 1
    for _ in range(3):
        panel._bar._act("train", {"steps": 20})
        time.sleep(0.05)
    wait_for(lambda: panel._bar.now["notice"] == "The run is over, after 20 steps.")
    client = panel.client
    assert client is not None
    time.sleep(0.5)
    assert client.refresh().step == 20
    assert client.status == "ready"


def test_a_client_that_goes_back_elsewhere_is_followed_back(
    panel: TrainingPanel, workbench: Workbench, patients: Dataset
) -> None:
    client = workbench.create_training_client("mlp", dataset=patients, batch_size=32, max_steps=60)
    wait_for(lambda: panel.client is not None and panel.client.id == client.id)
    client.train(steps=10, progress=False).result(120)
    checkpoint = client.save_state()
    client.train(steps=10, progress=False).result(120)
    wait_for(lambda: panel._bar.now["step"] == 20)
    client.load_state(checkpoint)
    wait_for(lambda: panel._bar.now["step"] == 10, 10)
    client.terminate()


def test_a_form_that_is_being_filled_in_stays(
    panel: TrainingPanel, workbench: Workbench, patients: Dataset
) -> None:
    details(panel)._act("touched", {})
    client = workbench.create_training_client("mlp", dataset=patients, batch_size=32, max_steps=10)
    panel._bar._act("retry", {})
    wait_for(lambda: client.id in [row["id"] for row in panel._bar.lists["clients"]])
    assert panel.client is None
    assert panel._bar.now["status"] == "none"
    client.terminate()


def test_a_panel_says_that_its_workbench_is_gone(wire: Wire) -> None:
    server = WorkbenchServer()
    with Workbench(socket=str(server.socket), api_key=server.api_key) as workbench:
        shape = {"input_shape": [4], "output_size": 2}
        panel = TrainingPanel(workbench.create_training_client("mlp", architecture=shape), workbench)
        panel._bar._act("ready", {})
        wait_for(lambda: status(panel) == "ready")
        assert panel._bar.now["connection"] == "connected"
        server.stop()
        wait_for(lambda: panel._bar.now["connection"] == "unreachable", 20)
        assert "starts it" in panel._bar.now["connection_text"]
        panel.close()


def test_a_panel_that_is_shown_nowhere_asks_nothing_and_goes_on_when_it_is_shown_again(
    wire: Wire, workbench: Workbench, patients: Dataset
) -> None:
    client = workbench.create_training_client("mlp", dataset=patients, batch_size=32, max_steps=60)
    before = threading.active_count()
    panel = TrainingPanel(client, workbench)
    panel._bar._act("ready", {})
    client.train(steps=10, progress=False).result(120)
    wait_for(lambda: panel._bar.now["step"] == 10)
    panel._bar._act("gone", {})
    wait_for(lambda: threading.active_count() <= before)
    client.train(steps=10, progress=False).result(120)
    time.sleep(0.5)
    assert panel._bar.now["step"] == 10
    panel._bar._act("ready", {})
    wait_for(lambda: panel._bar.now["step"] == 20)
    wait_for(lambda: [x for x, _ in panel.curve.points("loss")] == list(range(1, 21)))
    panel.close()
    client.terminate()
