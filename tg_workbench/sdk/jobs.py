"""Jobs: training runs that go to their end by themselves, and leave a model.

job = wb.jobs.submit("mlp", dataset, epochs=20, target_epsilon=3)
await job                          # the bar moves, the kernel stays free
job.model.predict(frame)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from tg_workbench.errors import DeadlineExceeded, InvalidRequest, JobFailed, JobNotFound
from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.dataset_names import dataset_id_of
from tg_workbench.sdk.datasets import Dataset
from tg_workbench.sdk.events import JOBS, Event, EventStream
from tg_workbench.sdk.followed import Followed
from tg_workbench.sdk.job_curves import Points, figure_of
from tg_workbench.sdk.job_plans import EarlyStopping, JobPlan, Schedule
from tg_workbench.sdk.job_views import JobLogLine, JobProgress, JobView
from tg_workbench.sdk.models import Model
from tg_workbench.sdk.paths import path_of_one
from tg_workbench.sdk.plans import LoRA, Optimizer, Privacy, chosen_lora, chosen_privacy
from tg_workbench.sdk.registry import Models
from tg_workbench.sdk.values import ClientView, PrivacyView

PATH = "/workbench/v1/jobs"
PAGE = 500
STOP_SECONDS = 10.0
"""How long `stop` waits for the job to save what it has."""


class Job(Followed[JobView]):
    """One job. `status`, `progress`, `metrics` and `history` ask each time; `view` is the last that was told.

    It goes on when this kernel ends: `wb.jobs[id]` finds it again.
    """

    def __init__(self, connection: Connection, view: JobView) -> None:
        super().__init__(connection, view)
        self._path = f"{PATH}/{view.id}"

    # ------------------------------------------------------------------------- how it goes
    def refresh(self) -> JobView:
        """Ask the workbench how it stands. Raises JobNotFound, CallFailed."""
        self._view = JobView.from_wire(self._connection.get(self._path))
        return self._view

    @property
    def status(self) -> str:
        """queued, running, stopping, completed, failed or cancelled."""
        return self.refresh().status

    @property
    def progress(self) -> JobProgress:
        """How far it is, with the newest loss and ε."""
        return self.refresh().moment

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What it has measured: at its end, or so far. Of protected rows these are not covered by ε."""
        return self.refresh().metrics

    @property
    def history(self) -> Mapping[str, Sequence[Any]]:
        """The same epoch by epoch: loss, accuracy, val_loss, val_accuracy, epsilon; None: not measured."""
        return self.refresh().history

    @property
    def warnings(self) -> Sequence[str]:
        """What there is to know of it that nobody asked for."""
        return self.refresh().warnings

    @property
    def reason(self) -> str | None:
        """Why it ended as it did; None while there is nothing to say."""
        view = self.refresh()
        return view.message or view.reason

    @property
    def privacy(self) -> PrivacyView:
        """What it promises about each example, and what it has spent of that."""
        self.refresh()
        return self._promised()

    @property
    def model(self) -> Model | None:
        """What it has learned; None before its end, and when it came to none."""
        model_id = self._view.model_id or self.refresh().model_id
        return None if model_id is None else Models(self._connection)[model_id]

    # ------------------------------------------------------------------------- to its end
    def wait(self, timeout: float | None = None, *, progress: bool = True) -> Self:
        """Wait for its end, with a bar, and return it; one that was stopped is `cancelled` and has no model.

        Raises JobFailed with the reason, and DeadlineExceeded after `timeout` seconds (it goes on).
        """
        return super().wait(timeout, progress=progress)

    def stop(self, wait: float = STOP_SECONDS) -> JobView:
        """End it: at once while it is queued, else when it has saved what it has.

        Comes back at its end, or after `wait` seconds. `restart()` goes on from there.
        """
        answer = self._connection.post(f"{self._path}/stop", wait=wait, answer_seconds=30.0 + wait)
        self._view = JobView.from_wire(answer)
        return self._view

    def restart(self) -> JobView:
        """Let a failed or cancelled job go on from its last checkpoint. What it has spent stays spent.

        The checkpoint is kept for a week, or as long as the operator says (`TG_RESTART_DAYS`).

        Raises JobNotRestartable, TooManyJobs.
        """
        self._view = JobView.from_wire(self._connection.post(f"{self._path}/restart"))
        return self._view

    # ------------------------------------------------------------------------- follow
    def events(self, after: int = 0) -> EventStream:
        """Everything that came after an event id (0: from its beginning), then what comes, as it comes."""
        return EventStream(self._connection, self.id, after, of=JOBS)

    def logs(self, *, follow: bool = True, after: int = 0) -> Iterator[JobLogLine]:
        """The lines of its log after an id, and those to come, until it is over.

        A line that breaks is taken up where it was: none is lost and none comes twice. With `follow=False`
        only those that are there.
        """
        if follow:
            yield from (JobLogLine.of(event) for event in self.events(after) if event.type == "log")
            return
        for page in self._pages(self._path, after):
            yield from (JobLogLine.of(event) for event in page if event.type == "log")

    def plot(self, *, published: bool = False) -> Any:
        """A Plotly figure of how it went until now: losses and measures, trained on and held out, and ε.

        Losses and measures of a protected dataset are raw, not covered by ε, and for you alone: a figure
        that others see is made with `published=True`, which leaves them out.
        """
        view, points = self.refresh(), Points()
        for page in self._pages(f"/workbench/v1/training_clients/{view.training_client_id}"):
            points.add(page)
        return figure_of(view, self._promised(), points, published=published)

    def _promised(self) -> PrivacyView:
        path = f"/api/v1/training_clients/{self._view.training_client_id}"
        return ClientView.from_wire(self._connection.get(path)).privacy

    def _pages(self, path: str, after: int = 0) -> Iterator[list[Event]]:
        """Stored events, a page at a time."""
        while True:
            answer = self._connection.get(f"{path}/history", {"after": after, "limit": PAGE})
            events = [Event.from_wire(event) for event in answer.get("events", [])]
            yield events
            if len(events) < PAGE:
                return
            after = events[-1].id

    def _goes_on(self) -> DeadlineExceeded:
        return DeadlineExceeded(self.id, f"job {self.name} is still {self._view.status} and goes on")

    def _require_good_end(self) -> None:
        if self._view.status == "failed":
            raise JobFailed(self.id, self._view.message or self._view.reason)

    def __repr__(self) -> str:
        """What it is and where it last stood; asks nobody."""
        return f"<Job {self.name}: {self._view.moment}, {self.id}>"


class Jobs:
    """The jobs of a workbench."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def submit(
        self,
        model_type: str,
        dataset: Dataset | str,
        *,
        name: str = "",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        optimizer: str | Optimizer | None = None,
        schedule: str | Schedule | None = None,
        class_weights: Sequence[float] | str | None = None,
        validation_split: float | None = None,
        early_stopping: bool | EarlyStopping | None = None,
        loss: str | None = None,
        hidden_sizes: Sequence[int] | None = None,
        precision: str | None = None,
        lora: LoRA | None = None,
        lora_rank: int | None = None,
        private: bool | None = None,
        privacy: Privacy | None = None,
        target_epsilon: float | None = None,
        delta: float | None = None,
        noise_multiplier: float | None = None,
        max_grad_norm: float | None = None,
        seed: int | None = None,
        checkpoint_every_steps: int | None = None,
        timeout_seconds: int | None = None,
        gpu_count: int = 0,
        priority: int = 0,
    ) -> Job:
        """Have a model learn a dataset to the end; comes back at once, and the job waits its turn.

        `model_type` is linear, logistic, mlp, cnn, resnet18, resnet50, a language model or a folder;
        `dataset` is given whole, by its id, or by its name: "ward" (the newest), "ward:2". What is not said
        is left to the workbench: 10 epochs of batches of 32, and a fifth of the rows held out.
        On a protected dataset it is private (ε = 3) when nothing is said. The dataset may still be
        processing. `early_stopping=True` watches the loss of the rows held out; `class_weights="balanced"`
        and a `seed` are for public datasets. `priority` is from -10 to 10, the higher the sooner.

        Raises InvalidRequest, UnknownModel, DatasetNotFound, TooManyJobs, and PrivacyRefused for what a
        protected dataset does not allow.
        """
        if dataset is None:
            raise InvalidRequest("a job learns from a dataset: give it, its id or its name")
        numbers = {
            "target_epsilon": target_epsilon,
            "delta": delta,
            "noise_multiplier": noise_multiplier,
            "max_grad_norm": max_grad_norm,
        }
        plan = JobPlan(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=optimizer,
            schedule=schedule,
            class_weights=class_weights,
            validation_split=validation_split,
            early_stopping=early_stopping,
            loss=loss,
            hidden_sizes=hidden_sizes,
            precision=precision,
            lora=chosen_lora(lora, lora_rank),
            privacy=chosen_privacy(private, privacy, numbers),
            seed=seed,
            checkpoint_every_steps=checkpoint_every_steps,
            timeout_seconds=timeout_seconds,
        )
        asked = {
            "dataset_id": dataset_id_of(dataset, self._connection),
            "model_type": model_type,
            "learning": plan.as_wire(),
            "name": name,
            "gpu_count": gpu_count,
            "priority": priority,
        }
        answer = self._connection.post(PATH, Body.of_json(asked))
        return Job(self._connection, JobView.from_wire(answer))

    def list(self, *, status: str | None = None, limit: int = 50, offset: int = 0) -> list[Job]:
        """A page of them, newest first; only those that stand at `status`."""
        answer = self._connection.get(PATH, {"status": status, "limit": limit, "offset": offset})
        return [Job(self._connection, JobView.from_wire(item)) for item in answer.get("jobs", [])]

    def get(self, job_id: str) -> Job:
        """The job with this id, also one of a kernel that has ended. Raises JobNotFound."""
        return Job(
            self._connection, JobView.from_wire(self._connection.get(path_of_one(PATH, job_id, JobNotFound)))
        )

    def __getitem__(self, job_id: str) -> Job:
        """The same, as `wb.jobs[id]`."""
        return self.get(job_id)

    def stats(self) -> dict[str, int]:
        """How many of your jobs stand where: total_jobs, and the five that add up to it."""
        return self._connection.get("/api/training/stats")
