"""Fit: the operation that is a job. Epochs over the members to learn from, a look at those held out, a model.

Every step goes through the client's Operator, so it is charged, noised, told and saved as any other. What
the job shows is written with the client's own numbers in one transaction, a few times a second at most.

Pitfalls: loss, accuracy and every `val_…` of a protected dataset are raw. They answer the curator. Where a
model has an ε, on whichever dataset, they steer nothing: early stopping watches the noisy loss, and no best
weights are kept.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col

from tg_workbench.errors import BudgetExhausted, Interrupted, OperationCancelled, WorkbenchError
from tg_workbench.events import Logged, StatusChanged
from tg_workbench.models import Models, Shelf
from tg_workbench.outbox import WebhookEvent
from tg_workbench.storage.database import now
from tg_workbench.storage.statements import Statement
from tg_workbench.training.closing import end_job, job_of, tell_job, tell_outside
from tg_workbench.training.courses import Course, Numbers
from tg_workbench.training.harvests import harvest
from tg_workbench.training.histories import begun, best_epoch, epochs_of, is_enough, with_epoch
from tg_workbench.training.job_specs import EarlyStopping, JobSpec
from tg_workbench.training.notices import TENTHS
from tg_workbench.training.operating import Operator
from tg_workbench.training.paces import Paces
from tg_workbench.training.runs import Leaving
from tg_workbench.training.specs import JobStatus
from tg_workbench.training.tables import Job, Operation
from tg_workbench.training.telling import Telling

HISTORY = "history"
"""The note under which a checkpoint carries what was seen until it was saved."""
UNBEGUN = {"order": None, "told_epochs": 0, "told_tenths": 0, "seconds": 0.0, "best": None}
"""What a job's workers know of each other: the order of its passes, what was told, how long it took."""
MOST_MEASURED = 1000
"""Of so many members to learn from, the first ones, an epoch tells the accuracy."""
MOST_CHECKPOINTS = 3
"""Of the checkpoints that `checkpoint_every_steps` makes, so many are kept: the newest."""
TOO_SMALL = "the dataset is too small to hold rows out: all measures are of rows the model learned from"
LAID_OUT = "each row of the table is laid out as a square image of one channel, padded with 0"
OF_IMAGES = ("cnn", "tempered-cnn", "resnet18", "resnet50")


_STORE = Statement(
    sa.update(Job)
    .where(col(Job.id) == sa.bindparam("job"))
    .values({name: sa.bindparam(f"new_{name}") for name in ("progress", "history", "state")})
)


class JobTimedOut(WorkbenchError):
    """A job took longer than it was given. What it has learned was saved first."""

    def __init__(self, seconds: int) -> None:
        super().__init__(
            f"the job was given {seconds} seconds and is not done; restart it to go on from where it is saved"
        )
        self.seconds = seconds


class Fit:
    """One job in a worker. `control` is asked at every step border: go on, hold, stop or leave.

    `prepared_in` are the seconds that its worker has taken to load it: they are part of its time.
    """

    def __init__(
        self,
        operator: Operator,
        operation: Operation,
        control: Callable[[], str],
        prepared_in: float = 0.0,
    ) -> None:
        self.operator = operator
        self.operation = operation
        self.control = control
        self.prepared_in = prepared_in
        with operator.database.read() as session:
            self.job: Job = job_of(session, operator.client.id)
        self.spec = JobSpec.from_json(self.job.spec)
        self.dataset, self.rows = operator.dataset_rows(self.job.dataset_id)
        self.is_private = operator.plan is not None
        self.course = Course.of(self.spec, self.rows.members)
        self.telling = Telling(
            self.spec.epochs,
            self.course.total_steps,
            is_protected=self.dataset.privacy == "protected",
            holds_out=bool(len(self.course.held_out)),
        )
        self.schedule = self.spec.schedule.over(self.course.total_steps)
        self.rule = self._rule()
        self.history = begun(operator.notes.get(HISTORY))
        self.state: dict[str, Any] = {**UNBEGUN, **self.job.state}
        self.lines: list[Logged] = []
        self.sums: dict[str, list[float]] = {"loss": [], "noisy_loss": []}
        self.reason: str | None = None
        self._since = time.monotonic()
        self._ended_at: int | None = None
        self._pass: tuple[int, Numbers] | None = None
        self._sampler = operator.sampler_over(len(self.course.learned))
        self._held_out = self.rows.of_members(self.course.held_out)
        self._looked_at = self.rows.of_members(self.course.learned[:MOST_MEASURED])

    def go(self) -> dict[str, Any]:
        """Take the steps. Returns how it ended; `close` belongs into the transaction that stores that.

        Raises Leaving when another worker has to go on, OperationCancelled when it was stopped, JobTimedOut;
        what was learned is saved first.
        """
        if self.job.status == JobStatus.STOPPING:  # asked of a worker before this one
            raise OperationCancelled(f"it was stopped and saved at step {self.step}")
        self.operator.queue.write(self._begin)
        self._mend_best()
        while not self._is_done():
            order = self.control()
            if order == "leave":
                raise Leaving(self._progress())
            if order == "stop":
                self._save()
                raise OperationCancelled(f"it was stopped and saved at step {self.step}")
            most = self.spec.timeout_seconds
            if most is not None and self.prepared_in + self.seconds > most:
                self._save()
                raise JobTimedOut(most)
            if order == "go":
                self._take_step()
            else:  # held: what was taken is told and kept before the waiting
                self._save()
        return self._finish()

    @property
    def step(self) -> int:
        """How many steps were taken; the weights that are kept in the end may be those of an earlier one."""
        return self.operator.trainer.step if self._ended_at is None else self._ended_at

    @property
    def seconds(self) -> float:
        """How long the job has been worked on, by whichever worker, since it was last started."""
        return float(self.state["seconds"]) + time.monotonic() - self._since

    # ------------------------------------------------------------------------------- the way
    def _begin(self, session: Session) -> None:
        """The job runs; said once for each attempt, and to whoever takes it up."""
        values: dict[str, Any] = {"warnings": self._warnings()}
        if self.state["order"] is None:
            seed = self.spec.seed
            self.state["order"] = secrets.randbits(63) if seed is None else seed
        if self.job.started_at is None:
            self.state["seconds"], self.state["told_tenths"] = 0.0, 0
            is_to_stop = col(Job.status) == JobStatus.STOPPING  # asked for since it was read
            status = sa.case((is_to_stop, JobStatus.STOPPING), else_=JobStatus.RUNNING)
            values |= {"started_at": now(), "status": status}
            again = f" again, from step {self.step}" if self.job.attempt > 1 else ""
            facts = [Logged("WARNING", line) for line in values["warnings"] if line not in self.job.warnings]
            started = StatusChanged(JobStatus.RUNNING, self.step)
            tell_job(
                session,
                self._folder,
                self.job.id,
                started,
                Logged("INFO", f"Training started{again}"),
                *facts,
            )
            tell_outside(session, self.job, WebhookEvent.TRAINING_STARTED, status="running")
        else:
            line = Logged("WARNING", f"Another worker goes on from step {self.step}")
            tell_job(session, self._folder, self.job.id, line)
        its = sa.update(Job).where(col(Job.id) == self.job.id)
        session.connection().execute(its.values(**values, state=self.state))

    def _is_done(self) -> bool:
        """Close what epochs are behind us, and say whether that was the last."""
        while epochs_of(self.history) < self.step // self.course.steps_per_epoch:
            self._close_epoch()
        if self.reason is None and self.rule is not None and is_enough(self._watched(), self.rule):
            self.reason = "early_stopping"
        return self.reason is not None or self.step >= self.course.total_steps

    def _take_step(self) -> None:
        batch = self.rows.take_members(self._drawn())
        outcome = self.operator.learn(batch, allow_empty=True, check_gradient=False)
        try:
            taken = self.operator.apply(self.operation, learning_rate=self._learning_rate())
        except BudgetExhausted as end:
            self.operator.trainer.discard()
            if not self.step:
                raise  # nothing was learned: no model comes of it
            self.reason = "budget_exhausted"
            self.lines.append(Logged("WARNING", str(end)))
            return
        if outcome.num_examples:
            self.sums["loss"].append(outcome.loss)
        if taken.noisy_loss is not None:
            self.sums["noisy_loss"].append(taken.noisy_loss)
        if self.step % self.course.steps_per_epoch:
            self._report()
            self._keep()

    def _drawn(self) -> Numbers:
        """Whom the next step learns from: a Poisson draw, or without privacy the next of a shuffled pass."""
        if self._sampler is not None:
            return self.course.learned[self._sampler.draw()]
        epoch, number = divmod(self.step, self.course.steps_per_epoch)
        if self._pass is None or self._pass[0] != epoch:
            self._pass = (epoch, self.course.pass_over(epoch, self.state["order"]))
        first = number * self.spec.batch_size
        return self._pass[1][first : first + self.spec.batch_size]

    def _learning_rate(self) -> float:
        return self.schedule.learning_rate(self.step, self.spec.learning_rate)

    # ------------------------------------------------------------------------------- epochs
    def _close_epoch(self) -> None:
        """Look at the rows held out, write the epoch into the history, keep the best where that may be."""
        values = self._measured()
        means = {name: sum(seen) / len(seen) for name, seen in self.sums.items() if seen}
        values |= means | {"epsilon": self._epsilon}
        values = {"loss": values.get("train_loss"), **values}
        values.pop("train_loss", None)
        self.history = with_epoch(self.history, values)
        self.sums = {name: [] for name in self.sums}
        self.operator.notes = {**self.operator.notes, HISTORY: self.history}
        epoch = epochs_of(self.history)
        if epoch > self.state["told_epochs"]:
            self.state["told_epochs"] = epoch
            self.lines.append(Logged("INFO", self.telling.line(epoch, values)))
        if self._best() == epoch:
            self._keep_best(epoch)
        self._report()
        self._keep()

    def _measured(self) -> dict[str, Any]:
        """Loss and accuracy of the rows held out, and of the first of those learned from.

        Broken off in the middle, the next worker measures anew. Raises InvalidBatch for weights that are not
        finite.
        """
        self.operator.trainer.require_finite()
        measure, should_stop = self.operator.trainer.measure, self.operator.should_stop
        try:
            seen = measure(self._looked_at, should_stop)
            found = {"train_loss": seen.loss, **seen.metrics}
            if len(self.course.held_out):
                held = measure(self._held_out, should_stop)
                found |= {"val_loss": held.loss}
                found |= {f"val_{name}": value for name, value in held.metrics.items()}
        except Interrupted:
            raise Leaving(self._progress()) from None
        return found

    def _rule(self) -> EarlyStopping | None:
        """What ends the job early: with differential privacy the noisy loss alone may."""
        rule = self.spec.early_stopping
        return replace(rule, monitor="noisy_loss") if rule is not None and self.is_private else rule

    def _watched(self) -> list[float | None]:
        return [] if self.rule is None else self.history.get(self.rule.monitor, [])

    def _best(self) -> int | None:
        """The best epoch so far, counted from 1. None with differential privacy: to choose is to look."""
        if self.rule is None or self.is_private:
            return None
        best = best_epoch(self._watched(), self.rule)
        return None if best is None else best + 1

    def _mend_best(self) -> None:
        """A worker may have been lost between saving the best weights and saying so."""
        best, known = self._best(), self.state["best"]
        if known is not None and known["epoch"] > epochs_of(self.history):
            self.state["best"] = None
        unsaid = best is not None and (known is None or known["epoch"] != best)
        if best is not None and unsaid and self.step == best * self.course.steps_per_epoch:
            self._keep_best(best)

    def _keep_best(self, epoch: int) -> None:
        """Save these weights as the best so far, in the place of those before."""
        before = self.state["best"]
        artifact = self.operator.save(details={"best_epoch": epoch})
        self.state["best"] = {"artifact_id": artifact.id, "epoch": epoch}
        self._report(force=True)
        if before is not None:
            self.operator.checkpoints.forget(before["artifact_id"])

    # ------------------------------------------------------------------------------- telling and keeping
    def _report(self, *, force: bool = False) -> None:
        total, done = self.course.total_steps, self.step
        self.operator.flush(force=force, total=total, done=done, also=self._store)

    def _store(self, session: Session) -> None:
        """The job's row, the lines of its log, and each tenth that is told outside."""
        progress = self._progress()
        state = {**self.state, "seconds": self.seconds}
        tenth = TENTHS * self.step // self.course.total_steps
        passed = range(state["told_tenths"] + 1, tenth + 1)
        state["told_tenths"] = max(tenth, state["told_tenths"])
        shown = {"new_progress": progress, "new_history": self.history, "new_state": state}
        told = {name: json.dumps(value) for name, value in shown.items()}
        _STORE.change(session, job=self.job.id, **told)
        self.operator.queue.note_progress(session, self.operation, {"step": self.step})
        tell_job(session, self._folder, self.job.id, *self.lines)
        self.lines = []
        self.state["told_tenths"] = state["told_tenths"]
        for number in passed:
            tell_outside(
                session,
                self.job,
                WebhookEvent.TRAINING_PROGRESS,
                status="running",
                progress=100 * number // TENTHS,
                epoch=progress["epoch"],
                accuracy=self.telling.public_accuracy(self.history),
                epsilon=progress["metrics"].get("epsilon"),
            )

    def _progress(self) -> dict[str, Any]:
        return self.telling.progress(
            self.history, step=self.step, losses=self.sums["loss"], epsilon=self._epsilon
        )

    @property
    def _epsilon(self) -> float | None:
        return self.operator.budget.spent if self.operator.budget else None

    def _keep(self) -> None:
        """Checkpoints: the ones that were asked for, and one of ours when it is due."""
        every = self.spec.checkpoint_every_steps
        if every is not None and self.step % every == 0 and self.step != self.operator.saved_step:
            self._report(force=True)
            self.operator.save(details={"job_id": self.job.id, "step": self.step})
            self.operator.checkpoints.forget_all_but(
                MOST_CHECKPOINTS, keep=(self.state["best"] or {}).get("artifact_id")
            )
        self.operator.autosave()

    def _save(self) -> None:
        self._report(force=True)
        self.operator.autosave(force=True)

    # ------------------------------------------------------------------------------- the end
    def _finish(self) -> dict[str, Any]:
        """The last look: what the model that comes of it is worth."""
        best, self._ended_at = self.state["best"], self.step
        if best is not None:
            loaded = self.operator.checkpoints.load(best["artifact_id"])
            self.operator.trainer.load_state(loaded.tensors, loaded.metadata)
        found = self._measured()
        self.final = self.telling.final(found, self._epsilon)
        self._report(force=True)
        self.learned = harvest(self.operator, self.job, self.dataset, self.telling.performance(found))
        self.shelved = self._shelf.put_apart(self.operator.database, self.learned)
        return {"job_id": self.job.id, "step": self.step, "reason": self.reason}

    @property
    def _shelf(self) -> Shelf:
        return Shelf(self.operator.blobs, self.operator.home)

    def forget_model(self) -> None:
        """The model's bytes were put apart, but it could not be registered."""
        self._shelf.drop(self.shelved.blobs)

    def close(self, session: Session) -> None:
        """The job is completed, with all that is known of it."""
        job = job_of(session, self.operator.client.id)
        if job.attempt == 1:
            epochs = self.step / self.course.steps_per_epoch
            Paces(session).learn(job.tenant_id, self.spec, self.dataset, self.seconds, epochs)
        models = Models(session, self.operator.blobs, self.operator.home)
        model = models.register(self.learned, self.shelved)
        end_job(
            session,
            self._folder,
            job,
            JobStatus.COMPLETED,
            model_id=model.id,
            reason=self.reason,
            message=_MESSAGES.get(self.reason or ""),
            final_metrics=self.final,
            accuracy=self.telling.public_accuracy(self.history),
        )

    @property
    def _folder(self) -> Any:
        return self.operator.queue.folder

    def _warnings(self) -> list[str]:
        found = list(self.job.warnings)
        if self.spec.validation_split and not len(self.course.held_out):
            found.append(TOO_SMALL)
        shape = self.operator.trainer.spec.architecture
        if shape is not None and len(shape.input_shape) == 1 and self.spec.model_type in OF_IMAGES:
            found.append(LAID_OUT)
        found = list(dict.fromkeys(found))
        return found


_MESSAGES = {
    "early_stopping": "it had stopped becoming better",
    "budget_exhausted": "its privacy budget is spent; the model is that of the last step it paid for",
}
"""Why a job completed before its last epoch."""
