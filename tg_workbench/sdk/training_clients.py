"""A training client: one model on the workbench, and the verbs that train it.

`forward_backward`, `optim_step` and `train` return at once with a future; the other verbs wait for their
answer. All run in the order they were asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tg_workbench.errors import ClientFailed, DeadlineExceeded, InvalidRequest
from tg_workbench.sdk.audits import Audit
from tg_workbench.sdk.batches import batch_body, rows_of
from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.dataset_names import dataset_id_of
from tg_workbench.sdk.datasets import Dataset
from tg_workbench.sdk.downloads import unpacked
from tg_workbench.sdk.events import FOREVER, Event, EventStream, Subscription
from tg_workbench.sdk.futures import Future
from tg_workbench.sdk.progress import bar_here
from tg_workbench.sdk.runs import TrainingRun
from tg_workbench.sdk.values import (
    Checkpoint,
    ClientView,
    Completion,
    Evaluation,
    ForwardBackward,
    OptimStep,
    Prediction,
    PrivacyView,
)

T = TypeVar("T")
LONG_ANSWER_SECONDS = 630.0
"""The workbench holds the answer of a waiting verb back for up to 600 s."""
ANSWER_STAYS_SECONDS = 0.05
AT_WORK = ("initializing", "busy", "paused")


class TrainingClient:
    """One training client. Made by `Workbench.create_training_client` or `Workbench.attach`.

    `status`, `step`, `privacy` and `reason` ask the workbench each time; `refresh()` takes one consistent
    view, and `view` is the last one taken.
    """

    def __init__(self, connection: Connection, view: ClientView) -> None:
        self._connection = connection
        self._view = view
        self._api = f"/api/v1/training_clients/{view.training_client_id}"
        self._workbench = f"/workbench/v1/training_clients/{view.training_client_id}"
        self._last: dict[str, Future[Any]] = {}

    # ------------------------------------------------------------------------- what it is
    @property
    def id(self) -> str:
        """Its id: keep it, and `wb.attach(id)` finds the client again after a kernel restart."""
        return self._view.training_client_id

    @property
    def view(self) -> ClientView:
        """The last view taken; asks nobody."""
        return self._view

    @property
    def config(self) -> dict[str, Any]:
        """What it was created with, the workbench's defaults filled in, as in the last view."""
        return self._view.config

    @property
    def status(self) -> str:
        """initializing, ready, busy, paused, error or terminated."""
        return self.refresh().status

    @property
    def step(self) -> int:
        """How many optimizer steps its model has taken."""
        return self.refresh().step

    @property
    def privacy(self) -> PrivacyView:
        """What it promises about each example, and what it has spent of that."""
        return self.refresh().privacy

    @property
    def reason(self) -> str | None:
        """Why it ended, failed or was interrupted; None while all is well."""
        return self.refresh().reason

    def refresh(self) -> ClientView:
        """Ask the workbench how it stands. Raises TrainingClientNotFound, CallFailed."""
        self._view = ClientView.from_wire(self._connection.get(self._api))
        return self._view

    # ------------------------------------------------------------------------- step by step
    def forward_backward(
        self,
        batch: Mapping[str, Any] | None = None,
        *,
        dataset: Dataset | str | None = None,
        features: Any = None,
        targets: Any = None,
        input_ids: Any = None,
        attention_mask: Any = None,
        labels: Any = None,
        record_ids: Any = None,
        unit_ids: Any = None,
    ) -> Future[ForwardBackward]:
        """Add the gradients of these rows to what waits for `optim_step`.

        With `dataset` (the client's own) the workbench draws the rows itself: the tighter ε. `record_ids` or
        `unit_ids` say whose each row is, where `Privacy(unit=…)` counts by them: whole numbers or texts.
        Raises InvalidBatch, ClientTerminated, QueueFull; its future raises what the batch is refused for.
        """
        dataset_id = dataset_id_of(dataset, self._connection)
        members = {
            "features": features,
            "targets": targets,
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": labels,
            "record_ids": record_ids,
            "unit_ids": unit_ids,
        }
        rows = rows_of(batch, members, dataset=dataset_id)
        body = Body.of_json({"dataset_id": dataset_id}) if rows is None else batch_body(rows)
        return self._future("forward_backward", body, ForwardBackward.from_wire)

    def optim_step(
        self, *, learning_rate: float | None = None, apply_dp_noise: bool = True
    ) -> Future[OptimStep]:
        """Move the model by what was accumulated; on a private client, noised and charged first.

        Its future raises NoGradient when nothing was accumulated, BudgetExhausted when the step would pass a
        cap (nothing is spent then) and PrivacyRefused for `apply_dp_noise=False` on a private client.
        """
        body: dict[str, Any] = {"apply_dp_noise": apply_dp_noise}
        if learning_rate is not None:
            body["learning_rate"] = learning_rate
        return self._future("optim_step", Body.of_json(body), OptimStep.from_wire)

    # ------------------------------------------------------------------------- to the end
    def train(
        self,
        *,
        dataset: Dataset | str | None = None,
        steps: int | None = None,
        epochs: float | None = None,
        progress: bool = True,
    ) -> TrainingRun:
        """Take many steps on the workbench and return at once, with a bar that goes on moving.

        `dataset` can only be the client's own: name it for the reader.
        Raises InvalidRequest unless exactly one of `steps` and `epochs` is given, and ClientTerminated.
        """
        if (steps is None) == (epochs is None):
            raise InvalidRequest("give steps=… or epochs=…, one of them")
        asked = {"dataset_id": dataset_id_of(dataset, self._connection), "steps": steps, "epochs": epochs}
        body = Body.of_json({name: value for name, value in asked.items() if value is not None})
        record = self._connection.post(f"{self._workbench}/train", body)
        return TrainingRun(self._connection, self.id, record, bar_here(wanted=progress))

    def pause(self) -> ClientView:
        """Hold it at the next step border; what is asked meanwhile waits."""
        return self._steer("pause")

    def resume(self) -> ClientView:
        """Let it go on."""
        return self._steer("resume")

    def stop(self) -> ClientView:
        """End its training runs at the next step border, and its audits; it stays usable."""
        return self._steer("stop")

    def terminate(self) -> ClientView:
        """End it for good and cancel what waits. Checkpoints and spent privacy stay."""
        self._connection.delete(self._api)
        return self.refresh()

    # ------------------------------------------------------------------------- use and judge
    def sample(
        self,
        prompts: str | Sequence[str],
        *,
        max_tokens: int = 128,
        temperature: float = 0.7,
        top_p: float = 0.9,
        top_k: int = 50,
        stop: Sequence[str] = (),
    ) -> list[Completion]:
        """What the model writes after each prompt. Raises NotALanguageModel."""
        asked = {
            "prompts": [prompts] if isinstance(prompts, str) else list(prompts),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "stop_sequences": list(stop),
        }
        answer = self._ask(f"{self._api}/sample", Body.of_json(asked))
        return [Completion.from_wire(sample) for sample in answer.get("samples", [])]

    def evaluate(
        self,
        batch: Mapping[str, Any] | None = None,
        *,
        dataset: Dataset | str | None = None,
        features: Any = None,
        targets: Any = None,
        input_ids: Any = None,
        labels: Any = None,
    ) -> Evaluation:
        """Loss and accuracy on rows of your own or on a public dataset.

        Raises PrivacyRefused for a protected dataset: its numbers would not be covered by ε.
        """
        dataset_id = dataset_id_of(dataset, self._connection)
        members = {"features": features, "targets": targets, "input_ids": input_ids, "labels": labels}
        rows = rows_of(batch, members, dataset=dataset_id)
        body = Body.of_json({"dataset_id": dataset_id}) if rows is None else batch_body(rows)
        return Evaluation.from_wire(self._ask(f"{self._workbench}/evaluate", body))

    def predict(self, features: Any) -> list[Prediction]:
        """The class of each row and how sure the model is; for regression, its value."""
        body = predict_body(features)
        answer = self._ask(f"{self._workbench}/predict", body)
        return [Prediction.from_wire(said) for said in answer.get("predictions", [])]

    def audit(
        self,
        method: str = "mechanism",
        *,
        canaries: int | None = None,
        steps: int | None = None,
        twins: int | None = None,
        confidence: float = 0.95,
    ) -> Future[Audit]:
        """Measure how much it reveals at least; `wb.audit` does so and waits. It changes and costs nothing.

        `mechanism`: so many `canaries` (5000) go through its sampler, clipping and noise for `steps` steps.
        `canaries`: by the `audit_canaries` it was created with. `lira`: by `twins` (16) of it that learn
        random halves of its dataset; for that one's owner only. Its future raises InvalidRequest for a client
        that has nothing of the kind, and Refused while a gradient waits; `stop()` ends it.
        """
        asked = {"method": method, "canaries": canaries, "steps": steps, "twins": twins}
        body = {name: value for name, value in asked.items() if value is not None}
        record = self._connection.post(
            f"{self._workbench}/audit", Body.of_json({**body, "confidence": confidence})
        )
        return Future(self._connection, record, Audit.from_wire)

    # ------------------------------------------------------------------------- checkpoints
    def save_state(
        self, *, include_optimizer: bool = True, metadata: Mapping[str, Any] | None = None
    ) -> Checkpoint:
        """Store its model, encrypted. Raises StorageFull; then nothing was half written."""
        asked = {"include_optimizer": include_optimizer, "metadata": dict(metadata or {})}
        answer = self._ask(f"{self._api}/save_state", Body.of_json(asked))
        return Checkpoint.from_wire(answer)

    def load_state(self, checkpoint: Checkpoint | str) -> ClientView:
        """Make its model that of a checkpoint, with the privacy that one has spent.

        Raises ArtifactNotFound, CheckpointInvalid; then the client is as it was before.
        """
        artifact_id = checkpoint if isinstance(checkpoint, str) else checkpoint.artifact_id
        self._ask(f"{self._api}/load_state", Body.of_json({"artifact_id": artifact_id}))
        return self.refresh()

    def checkpoints(self, *, limit: int = 50, offset: int = 0) -> list[Checkpoint]:
        """A page of its stored states, newest first."""
        answer = self._connection.get(f"{self._workbench}/artifacts", {"limit": limit, "offset": offset})
        return [Checkpoint.from_wire(item) for item in answer.get("artifacts", [])]

    def export(self, folder: str | Path, checkpoint: Checkpoint | str | None = None) -> Path:
        """Write a checkpoint's files into `folder`, which is made; None: the model as it is now.

        Adapters become a folder that `peft` loads (`adapter_model.safetensors`, `adapter_config.json`), a
        network of rows its `model.safetensors`; `privacy.json` says what they cost. They are not encrypted.
        Raises ArtifactNotFound, InvalidRequest, and FileExistsError rather than write over a file.
        """
        chosen = self.save_state() if checkpoint is None else checkpoint
        artifact_id = chosen if isinstance(chosen, str) else chosen.artifact_id
        content = self._connection.download(f"/workbench/v1/artifacts/{artifact_id}/export")
        return unpacked(content, Path(folder))

    # ------------------------------------------------------------------------- follow
    def events(self, after: int = 0) -> EventStream:
        """Everything that came after an event id (0: from its beginning), then what comes, as it comes."""
        return EventStream(self._connection, self.id, after)

    def history(self, after: int = 0, limit: int = 500) -> list[Event]:
        """Stored events after an id, oldest first, at most `limit`; never waits for new ones."""
        answer = self._connection.get(f"{self._workbench}/history", {"after": after, "limit": limit})
        return [Event.from_wire(event) for event in answer.get("events", [])]

    def on_event(self, callback: Callable[[Event], object], *, after: int = 0) -> Subscription:
        """Call `callback` with every event after an id, from a background thread, until `.close()`.

        Survives restarts of the API; no event is lost and none comes twice.
        """
        return Subscription(EventStream(self._connection, self.id, after, patience=FOREVER), callback)

    async def wait(self, timeout: float | None = None) -> ClientView:
        """Wait until nothing runs or waits, while the kernel stays free. A paused client is waited for.

        Raises ClientFailed when it cannot go on, DeadlineExceeded after `timeout` seconds.
        """
        for pause in self._until_idle(timeout):
            await asyncio.sleep(pause)
            await self._connection.off_loop(self.refresh)
        return self._view

    def wait_blocking(self, timeout: float | None = None) -> ClientView:
        """The same for scripts: nothing else in this thread runs meanwhile."""
        for pause in self._until_idle(timeout):
            time.sleep(pause)
            self.refresh()
        return self._view

    def _until_idle(self, timeout: float | None) -> Iterator[float]:
        """Pauses before each look; ends when the view that was taken says that nothing is at work."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.0
        yield pause
        while self._view.status in AT_WORK:
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceeded(
                    self.id, f"training client {self.id} is still at work after {timeout:g} s and goes on"
                )
            pause = min(0.5, pause + 0.02)
            yield pause
        if self._view.status == "error":
            raise ClientFailed(self._view.reason or f"training client {self.id} cannot go on")

    # ------------------------------------------------------------------------- how it asks
    def _future(self, verb: str, body: Body, read: Callable[[Mapping[str, Any]], T]) -> Future[T]:
        """Hand an operation in. Whoever blocked for the last one of its kind will block for this one too.

        So its answer may stay a moment: the end of a quick step then comes with it, in one request less.
        """
        before = self._last.get(verb)
        wait = ANSWER_STAYS_SECONDS if before is not None and before.was_awaited else 0.0
        record = self._connection.post(f"{self._api}/{verb}", body, wait=wait)
        future = self._last[verb] = Future(self._connection, record, read)
        return future

    def _ask(self, path: str, body: Body) -> dict[str, Any]:
        """A verb that waits for its answer; if that takes longer than one request may, ask on."""
        try:
            return self._connection.post(path, body, answer_seconds=LONG_ANSWER_SECONDS)
        except DeadlineExceeded as late:
            record = {"future_id": late.future_id, "status": "pending"}
            return Future(self._connection, record, dict).result()

    def _steer(self, verb: str) -> ClientView:
        self._view = ClientView.from_wire(self._connection.post(f"{self._workbench}/{verb}"))
        return self._view

    def __repr__(self) -> str:
        """What it is and where it last stood; asks nobody."""
        view = self._view
        return f"<TrainingClient {view.model_ref} {view.status} step {view.step}, {view.privacy}, {self.id}>"


class TrainingClients:
    """The training clients of a workbench, those of other notebooks too."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, *, limit: int = 50, offset: int = 0) -> list[TrainingClient]:
        """A page of them, newest first. Ended ones are listed too."""
        answer = self._connection.get("/api/v1/training_clients", {"limit": limit, "offset": offset})
        return [
            TrainingClient(self._connection, ClientView.from_wire(view))
            for view in answer.get("training_clients", [])
        ]

    def get(self, client_id: str) -> TrainingClient:
        """The client with this id. Raises TrainingClientNotFound."""
        view = self._connection.get(f"/api/v1/training_clients/{client_id}")
        return TrainingClient(self._connection, ClientView.from_wire(view))


def predict_body(features: Any) -> Body:
    """Rows to predict, or prompts for a language model."""
    if isinstance(features, str):
        return Body.of_json({"prompts": [features]})
    if isinstance(features, list) and features and all(isinstance(item, str) for item in features):
        return Body.of_json({"prompts": features})
    return batch_body({"features": features}, inside=None)
