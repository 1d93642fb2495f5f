"""A training client at work: how it learns, keeps its state, and tells how far it came.

Runs in the worker. Whatever raises leaves the client as it was before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tg_workbench.datasets import Dataset, require_ready
from tg_workbench.datasets.ledger import join
from tg_workbench.engine.trainer import ForwardBackward, OptimStep, Trainer
from tg_workbench.errors import (
    DatasetNotFound,
    InvalidBatch,
    InvalidRequest,
    NoGradient,
    Refused,
    StorageFull,
)
from tg_workbench.events import Progressed
from tg_workbench.execution import Fence
from tg_workbench.privacy import PoissonSampler
from tg_workbench.storage import Blobs, Database
from tg_workbench.training.budget import NO_GUARANTEE, RunBudget
from tg_workbench.training.canaries import Canaries
from tg_workbench.training.checkpoints import Checkpoints
from tg_workbench.training.plan import Plan
from tg_workbench.training.points import Points
from tg_workbench.training.provenance import Provenance
from tg_workbench.training.queue import Also, WorkQueue
from tg_workbench.training.rows import Batch, DatasetRows
from tg_workbench.training.tables import Artifact, Operation, TrainingClient

log = logging.getLogger(__name__)
AUTOSAVE_SHARE = {True: 0.05, False: 0.01}
"""Which part of the time automatic checkpoints may cost, with privacy and without.

Steps that are lost with a worker cost time, and with privacy ε as well.
"""
FLUSH_SHARE = 0.005
"""Which part of the time storing points may cost, unless they would come more rarely than ever."""
PROGRESS_SECONDS = (0.1, 1.0)
"""How often points are stored: at first, and at most; the longer training goes on, the more rarely."""
NOT_SAVED = -1
NOTES = "notes"
"""The name under which a checkpoint carries an operator's notes, under its seal."""


class Operator:
    """A loaded training client: its trainer, its budget, its datasets, its checkpoints."""

    def __init__(
        self,
        client: TrainingClient,
        trainer: Trainer,
        plan: Plan | None,
        queue: WorkQueue,
        database: Database,
        blobs: Blobs,
        home: Path,
        fence: Fence,
        should_stop: Callable[[], bool],
    ) -> None:
        self.client = client
        self.trainer = trainer
        self.plan = plan
        self.queue = queue
        self.database = database
        self.blobs = blobs
        self.home = home
        self.should_stop = should_stop
        self.step = client.step
        self.lineage: dict[str, int] = dict(client.lineage)
        self.budget = RunBudget(plan, client, database, fence) if plan is not None else None
        self.checkpoints = Checkpoints(client, database, blobs, home, fence)
        self._points = Points(plan, client.dp_metrics)
        self.saved_step = NOT_SAVED
        self.notes: dict[str, Any] = {}
        """What whoever trains wants to find beside the weights when they are taken up again."""
        self.provenance = Provenance.of_plan(plan)
        self._charges = 0
        self._began = time.monotonic()
        self._last_flush = self._flush_cost = 0.0
        self._save_cost = 0.0
        self._last_save = time.monotonic()
        self._datasets: dict[str, tuple[Dataset, DatasetRows]] = {}
        self._sampler: PoissonSampler | None = None
        self._canaries: Canaries | None = None

    @property
    def points(self) -> dict[str, list[Any]]:
        """What each step came to, by column, since the last time it was told."""
        return self._points.columns

    @property
    def dp_metrics(self) -> dict[str, Any] | None:
        """What the newest step spent, as it is told; None without privacy."""
        return self._points.dp_metrics

    # ------------------------------------------------------------------------------- learning
    def learn(
        self,
        batch: Batch,
        *,
        allow_empty: bool = False,
        admitted: bool = False,
        canaries: int = 0,
        check_gradient: bool = True,
    ) -> ForwardBackward:
        """One pass over a batch, the last `canaries` examples of which are nobody's."""
        own_rows = self.plan is not None and self.plan.mode == "client_batches"
        asks = self.budget is not None and self.budget.plan.counts_participants and not admitted
        outcome = self.trainer.forward_backward(
            batch,
            allow_empty=allow_empty,
            refuse_repeats=own_rows,
            admit=self.budget.require_room if asks and self.budget is not None else None,
            canaries=canaries,
            check_gradient=check_gradient,
        )
        self._points.saw(outcome)
        return outcome

    def learn_sampled(self) -> ForwardBackward:
        """One pass over a fresh draw from the client's dataset; a draw may be empty.

        Raises Refused when this step's batch is drawn already: one charge pays for one draw.
        """
        if self.trainer.pending and self.plan is not None:
            raise Refused(
                "this step's batch is drawn already: call optim_step before the next forward_backward"
            )
        if self.client.dataset_id is None:
            raise InvalidRequest("this client has no dataset: send a batch, or create it with a dataset_id")
        _, rows = self.dataset_rows(self.client.dataset_id)
        canaries = self.canaries()
        if self._sampler is None:
            self._sampler = self._sampler_of(rows, 0 if canaries is None else len(canaries.learned))
        drawn = self._sampler.draw()
        if canaries is None:
            return self.learn(rows.take_members(drawn), allow_empty=True)
        batch, extra = canaries.join(rows, drawn)
        return self.learn(batch, allow_empty=True, canaries=extra)

    def sampler_over(self, members: int) -> PoissonSampler | None:
        """Draws from a part of the dataset that the plan was made for; None: there is no plan."""
        if self.plan is None:
            return None
        most = self.plan.truncated_batch_size
        return PoissonSampler(members, self.plan.sample_rate, truncated_batch_size=most)

    def _sampler_of(self, rows: DatasetRows, canaries: int) -> PoissonSampler:
        """Draws from the dataset and the canaries beside it, each at the rate of the dataset alone."""
        planned = self.sampler_over(rows.members + canaries)
        if planned is not None:
            return planned
        return PoissonSampler(
            rows.members + canaries, min(1.0, self.client.config["batch_size"] / rows.members)
        )

    def canaries(self) -> Canaries | None:
        """What is learned beside the client's dataset; None when it was created without."""
        if self._canaries is None and self.client.dataset_id is not None:
            dataset, _ = self.dataset_rows(self.client.dataset_id)
            self._canaries = Canaries.of(self.client.config, dataset, self.trainer)
        return self._canaries

    def apply(self, operation: Operation, *, learning_rate: float | None = None) -> OptimStep:
        """Take one optimizer step: the charge is in the ledger before the noise is drawn."""
        if not self.trainer.pending:
            raise NoGradient
        charged = None
        if self.budget is not None:
            self._charges += 1
            charged = self.budget.charge(
                operation,
                ordinal=self._charges,
                step=self.step + 1,
                participants=self.trainer.participants,
            )
        taken = self.trainer.optim_step(learning_rate=learning_rate)
        self.step = taken.step
        self._points.add(taken, charged)
        return taken

    # ------------------------------------------------------------------------------- state
    def load(self, artifact_id: str) -> Artifact:
        """Take up a checkpoint.

        The ledger is never lowered: lineages are joined, and what the weights have spent is written down
        before they are taken. Raises CheckpointInvalid.
        """
        loaded = self.checkpoints.load(artifact_id)
        provenance = Provenance.from_metadata(loaded.metadata, loaded.artifact.lineage)
        provenance.require_covered_by(self.plan)
        self.trainer.check_state(loaded.tensors, loaded.metadata)
        lineage = join(self.lineage, loaded.artifact.lineage)
        if self.budget is not None:
            self.budget.reload(lineage)
        self.queue.record(client_values={"lineage": lineage})
        self.lineage = lineage
        self.trainer.load_state(loaded.tensors, loaded.metadata)
        self.provenance = self.provenance.joined(provenance)
        self.step, self.saved_step = loaded.artifact.step, NOT_SAVED
        self.flush(force=True)
        self.autosave(force=True)
        return loaded.artifact

    def save(
        self,
        *,
        automatic: bool = False,
        include_optimizer: bool = True,
        details: dict[str, Any] | None = None,
    ) -> Artifact:
        """Write a checkpoint of the model as it is now. Raises InvalidBatch where it has come to nothing."""
        self.trainer.require_finite()
        tensors, metadata = self.trainer.state(include_optimizer=include_optimizer)
        metadata.update(self.provenance.as_metadata())
        if self.notes:
            metadata[NOTES] = self.notes
        artifact = self.checkpoints.save(
            tensors,
            metadata,
            step=self.step,
            lineage=self.lineage,
            automatic=automatic,
            details=details,
            dp_metrics=self.dp_metrics,
        )
        if include_optimizer:
            self.saved_step = self.step
        return artifact

    def autosave(self, *, force: bool = False) -> None:
        """Write an automatic checkpoint when one is due: as often as its share of the time allows.

        A gradient that waits is no part of it: its rows are kept, and it is formed again. A full disk is no
        reason to end what goes on. Weights that are not finite leave the checkpoint before them as it is:
        who trains hears of them at the next step, or at the end of the epoch.
        """
        began = time.monotonic()
        due = began - self._last_save > self._save_cost / AUTOSAVE_SHARE[self.plan is not None]
        if self.step == self.saved_step or not (force or due):
            return
        try:
            self.save(automatic=True)
        except StorageFull:
            log.warning("the disk is full: no automatic checkpoint")
        except InvalidBatch:
            log.warning("the weights are not finite: no automatic checkpoint")
        self._last_save = time.monotonic()
        self._save_cost = self._last_save - began

    def untold_steps(self, client: TrainingClient) -> int:
        """Steps that an earlier worker charged and took, but had not yet told of when it was lost."""
        told = (client.privacy or {}).get("steps", 0)
        return max(0, self.budget.steps_taken - told) if self.budget is not None else 0

    # ------------------------------------------------------------------------------- telling
    def client_values(self) -> dict[str, Any]:
        """The client's row as it should be stored now."""
        return {
            "step": self.step,
            "privacy": self.budget.view() if self.budget is not None else NO_GUARANTEE,
            "dp_metrics": self.dp_metrics,
            "lineage": self.lineage,
        }

    def flush(
        self,
        *,
        force: bool = False,
        total: int | None = None,
        done: int | None = None,
        also: Also | None = None,
    ) -> bool:
        """Store the points since the last time, at most ten times a second, and more rarely in a long run.

        More rarely also where that takes long; once a second in any case.

        `also` writes what belongs to it. True when something was stored.
        """
        moment = time.monotonic()
        if not force and moment - self._last_flush < self._flush_pause(moment):
            return False
        values = self.client_values()
        if self.points["step"]:
            fact = Progressed(self.points, self.step, total, done, values["privacy"])
            self.queue.record(fact, client_values=values, also=also)
            self._points.begin_anew()
        else:
            self.queue.record(client_values=values, also=also)
        self._last_flush = time.monotonic()
        self._flush_cost = self._last_flush - moment
        return True

    def _flush_pause(self, moment: float) -> float:
        often, rarely = PROGRESS_SECONDS
        return min(rarely, max(often, (moment - self._began) / 1000, self._flush_cost / FLUSH_SHARE))

    def dataset_rows(self, dataset_id: str) -> tuple[Dataset, DatasetRows]:
        """A dataset of the client's owner, read once. Raises what is no dataset with rows, Interrupted."""
        if dataset_id not in self._datasets:
            with self.database.read() as session:
                dataset = session.get(Dataset, dataset_id)
            if dataset is None or dataset.deleted_at is not None or dataset.owner_id != self.client.owner_id:
                raise DatasetNotFound
            require_ready(dataset)
            rows = DatasetRows.load(dataset, self.blobs, self.trainer, should_stop=self.should_stop)
            self._datasets[dataset_id] = (dataset, rows)
        return self._datasets[dataset_id]
