"""A worker: the process that holds one training client and does its operations in order.

It is forked with torch in memory, takes up where the worker before it ended, and leaves when it has rested
long enough, when it is asked to, or when no dispatcher has been seen for a while. It writes only behind its
fence.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from tg_workbench.crypto.keyring import Keyring
from tg_workbench.datasets import Dataset, require_ready
from tg_workbench.errors import (
    ClientFailed,
    DatabaseUnavailable,
    Interrupted,
    OperationCancelled,
    WorkbenchError,
    WorkerLost,
)
from tg_workbench.events import ClientInterrupted
from tg_workbench.execution import Assignment, Bell, Fence, Fenced, RollCall, run_folder
from tg_workbench.execution.bells import bell_name
from tg_workbench.execution.work import LifeLock, keep_renewed
from tg_workbench.settings import Settings
from tg_workbench.storage import Blobs, Database
from tg_workbench.training.audits import Audit
from tg_workbench.training.budget import RunBudget
from tg_workbench.training.checkpoints import forget_automatic
from tg_workbench.training.fitting import Fit, JobTimedOut
from tg_workbench.training.job_specs import JobSpec
from tg_workbench.training.operating import NOTES, Operator
from tg_workbench.training.outfits import Outfit
from tg_workbench.training.plan import Plan
from tg_workbench.training.preparing import Preparing
from tg_workbench.training.provenance import Provenance
from tg_workbench.training.queue import WorkQueue
from tg_workbench.training.runs import Leaving, Run
from tg_workbench.training.specs import ENDED, OperationKind, Status
from tg_workbench.training.tables import Job, Operation, TrainingClient
from tg_workbench.training.verbs import Verbs

log = logging.getLogger(__name__)
WAIT_SECONDS = 0.5
SETTLE_SECONDS = 0.05


def run(assignment: Assignment) -> None:
    """Be the worker of one training client until it is time to leave."""
    settings = Settings.from_environment()
    Worker(assignment, settings).run()


class Worker:
    """One assignment, from taking the lock to letting go of it."""

    def __init__(self, assignment: Assignment, settings: Settings) -> None:
        self.assignment = assignment
        self.settings = settings
        self.folder = run_folder(settings.home)
        self.database = Database(settings.database_url)
        self.blobs = Blobs(settings.home / "blobs")
        self.fence = Fence(assignment.work_id, assignment.epoch)
        self.queue = WorkQueue(self.database, self.folder, self.fence)
        self.leaving = threading.Event()
        self.yielding = threading.Event()
        self.last_active = time.monotonic()
        self._last_look = 0.0
        self._roll_call = RollCall(self.database)
        self._order = "go"
        self._is_held = False
        self._preparing: Preparing | None = None

    def run(self) -> None:
        """Hold the client, work, save, leave."""
        self._lock = LifeLock(self.folder, self.assignment.work_id)
        if not self._lock.take_soon():
            return
        self.bell = Bell(self.folder, bell_name(self.assignment.work_id))
        signal.signal(signal.SIGTERM, lambda *_: self.leaving.set())
        signal.signal(signal.SIGUSR1, lambda *_: self.yielding.set())
        try:
            with self.database.write() as session:
                self.fence.renew(session, pid=os.getpid(), last_exit=None)
            threading.Thread(target=keep_renewed, args=(self.database, self.fence), daemon=True).start()
            self._work()
        except Fenced:
            log.warning("replaced; leaving without a trace")
        finally:
            self.bell.close()
            self.database.close()

    # ------------------------------------------------------------------------------- the client's life
    def _work(self) -> None:
        operator = self._begin()
        if operator is not None:
            self._serve(operator)

    def _begin(self) -> Operator | None:
        """The loaded client; None when it has ended or cannot be loaded, and everybody was told."""
        client = self.queue.client()
        if client.status in ENDED:
            self._settle(client)
            self._rest_for_good()
            return None
        if self.assignment.give_up:
            self._fail_client(
                WorkerLost(f"{self.assignment.previous_exit}, again and again; see logs/workers.log")
            )
            return None
        try:
            return self._load(client)
        except (Fenced, DatabaseUnavailable):
            raise  # no fault of the client's
        except Interrupted:  # while its noise was chosen, or the features of its images were made
            self._broken_off(client)
            return None
        except WorkbenchError as failure:
            self._fail_client(failure)
            return None

    def _serve(self, operator: Operator) -> None:
        """Do what is asked until it is time to leave."""
        while not self.leaving.is_set():
            order = self._control()
            if order == "end":
                operator.flush(force=True)
                self._rest_for_good()
                return
            if order == "stop":  # whatever was to be stopped has ended
                self._clear_stop()
            if self._order == "hold":
                self.queue.give_back_taken()
            operation = self.queue.begin_next() if self._order == "go" else None
            if operation is not None:
                self._do(operator, operation)
            elif self._idle(operator):
                return
        self.queue.give_back_taken()
        operator.flush(force=True)
        operator.autosave(force=True)

    def _load(self, client: TrainingClient) -> Operator:
        """Build the model, or take it up from the last checkpoint."""
        Keyring.open(self.settings.home)  # without keys nothing could ever be saved: said now, not then
        dataset = self._dataset(client)
        job = self._job(client)
        self._preparing = None if job is None else Preparing(time.monotonic(), job.timeout_seconds)
        outfit = Outfit.of(client, dataset, job, blobs=self.blobs, settings=self.settings, go_on=self._go_on)
        client.plan = outfit.plan.as_json() if outfit.plan else None
        operator = Operator(
            client,
            outfit.trainer,
            outfit.plan,
            self.queue,
            self.database,
            self.blobs,
            self.settings.home,
            self.fence,
            self._must_leave,
        )
        if dataset is not None and dataset.deleted_at is None:
            operator.dataset_rows(dataset.id)  # what cannot be learned from is said now, not at some draw
            operator.canaries()
        gradients, cut_off = self._take_up(operator)
        reason = self._restore(operator, client, cut_off=cut_off)
        for operation in gradients:
            Verbs(operator).forward_backward(operation, again=True)
        operator.autosave(force=True)
        self.queue.announce(
            Status.READY,
            reason,
            plan=client.plan,
            config=outfit.spec.as_json(),
            **operator.client_values(),
        )
        return operator

    def _broken_off(self, client: TrainingClient) -> None:
        """It was not loaded: it has ended, its job is over before it began, or this worker has to leave."""
        late = self._preparing
        if self._order == "end":
            self._settle(client)
            self._rest_for_good()
        elif late is not None and late.timeout_seconds is not None and late.is_late:
            self._fail_client(JobTimedOut(late.timeout_seconds))
        elif self._order == "stop":
            self._clear_stop()
            self.queue.rest()

    def _take_up(self, operator: Operator) -> tuple[list[Operation], bool]:
        """Take up the queue; before, show what a job has spent, for it may end now."""
        if operator.client.job_id is not None and operator.budget is not None:
            self.queue.record(client_values={"privacy": operator.budget.view()})
        return self.queue.take_up()

    def _restore(self, operator: Operator, client: TrainingClient, *, cut_off: bool) -> str | None:
        """Load the newest checkpoint, and say so when a worker was lost."""
        loaded = operator.checkpoints.restart_point(client)
        if loaded is not None:
            operator.trainer.load_state(loaded.tensors, loaded.metadata)
            operator.notes = loaded.metadata.get(NOTES, {})
            operator.step = operator.saved_step = loaded.artifact.step
            operator.provenance = operator.provenance.joined(
                Provenance.from_metadata(loaded.metadata, loaded.artifact.lineage)
            )
        told = client.step + operator.untold_steps(client)
        lost_steps = max(0, told - operator.step)
        how = self.assignment.previous_exit
        if loaded is None or not (how or cut_off or lost_steps):
            return None
        is_newest = loaded.artifact.id == (client.last_checkpoint or {}).get("artifact_id")
        cause = (how or "ended unseen") if is_newest else "its newest checkpoint does not open"
        self.queue.record(ClientInterrupted(cause, told, operator.step, lost_steps))
        resumed = f"resumed from the checkpoint at step {operator.step}"
        return f"a worker was lost ({cause}) at step {told}; {resumed}"

    def _do(self, operator: Operator, operation: Operation) -> None:
        """Do one operation and store how it ended."""
        try:
            if operation.kind == OperationKind.FIT:
                self._fit(operator, operation)
                return
            result = self._result_of(operator, operation)
        except Leaving as leave:
            self.queue.put_back(operation, progress=leave.progress)
        except Interrupted:
            self.queue.put_back(operation)
        except WorkbenchError as failure:
            if isinstance(failure, (Fenced, DatabaseUnavailable)):
                raise  # unanswered: the next worker does it, or nobody is told a half-truth
            self.queue.fail(operation, failure)
        else:
            values = operator.client_values() if operation.kind == OperationKind.OPTIM_STEP else None
            self.queue.complete(operation, result, client_values=values)
        if operator.points["step"]:
            operator.flush()
        operator.autosave()
        self.last_active = time.monotonic()
        if self._order == "go":
            self.yielding.clear()

    def _result_of(self, operator: Operator, operation: Operation) -> dict[str, Any]:
        if operation.kind == OperationKind.TRAIN:
            return Run(operator, operation, self._control_run).go()
        if operation.kind == OperationKind.AUDIT:
            return Audit(operator, operation, self._control_run).go()
        handler: Callable[[Operation], dict[str, Any]] = getattr(
            Verbs(operator), OperationKind(operation.kind)
        )
        return handler(operation)

    def _fit(self, operator: Operator, operation: Operation) -> None:
        """Do a job. Its end, that of its client and the operation's answer are one transaction."""
        fit = Fit(operator, operation, self._control_run, self._prepared_in())
        result = fit.go()
        ended = {**operator.client_values(), "status": Status.TERMINATED, "reason": "its job is completed"}
        try:
            self.queue.complete(operation, result, client_values=ended, also=fit.close)
        except BaseException:
            fit.forget_model()
            raise
        self._last_look = 0.0

    def _idle(self, operator: Operator) -> bool:
        """Nothing to do: wait; then tell what is untold, save what is unsaved. True when it is time to leave.

        A caller who steps by hand is back within milliseconds, so the waiting comes first. A job's worker
        leaves at once: nobody asks for anything more.
        """
        if operator.client.job_id is not None and self._order != "hold":
            return self.queue.rest()
        if self.bell.wait(SETTLE_SECONDS if operator.points["step"] else WAIT_SECONDS):
            self._last_look = 0.0
            return False
        if operator.points["step"]:
            operator.flush(force=True)
            return False
        operator.autosave(force=True)
        rested = time.monotonic() - self.last_active > self.settings.worker_idle_seconds
        asked = self.yielding.is_set()  # another client waits for this worker's place
        return (asked or (rested and not operator.trainer.pending)) and self.queue.rest()

    # ------------------------------------------------------------------------------- orders
    def _control(self) -> str:
        """What the client's row says: go, hold, stop or end. Looked up when rung, or after a while."""
        rung = self.bell.wait(0)
        if rung or time.monotonic() - self._last_look > WAIT_SECONDS:
            try:
                status, paused, stop_requested = self.queue.orders()
            except DatabaseUnavailable:
                log.warning("the database did not answer; going on as before")
                self._last_look = time.monotonic()
                return self._order
            self._last_look = time.monotonic()
            self._order = "go"
            if status in ENDED:
                self._order = "end"
            elif stop_requested:
                self._order = "stop"
            elif paused:
                self._order = "hold"
        if self._roll_call.is_orphaned():  # save and go: the next dispatcher starts another worker
            self.leaving.set()
        return self._order

    def _control_run(self) -> str:
        """The same for a run: being asked to leave, or ended, comes first; holding waits for the bell.

        Whoever is held gives its place to a client that waits for one.
        """
        order = self._control()
        if self.leaving.is_set() or order == "end":
            return "leave"
        if order == "hold" and self.yielding.is_set():
            return "leave"
        if order == "hold" and self._is_held:  # not at once: what was done so far is told first
            self.bell.wait(WAIT_SECONDS)
            self._last_look = 0.0
        self._is_held = order == "hold"
        return order

    def _must_leave(self) -> bool:
        """Whether what takes long should be broken off: this worker leaves, or its client has ended.

        Before a job has begun, stopping it and its timeout end it as well.
        """
        order = self._control()
        if self._preparing is not None and (order == "stop" or self._preparing.is_late):
            return True
        return self.leaving.is_set() or order == "end"

    def _go_on(self) -> None:
        """Raises Interrupted."""
        if self._must_leave():
            raise Interrupted

    def _prepared_in(self) -> float:
        """How many seconds went before a job began; told once."""
        prepared, self._preparing = self._preparing, None
        return 0.0 if prepared is None else prepared.seconds

    def _clear_stop(self) -> None:
        self.queue.record(client_values={"stop_requested": False})
        self._order = "go"

    # ------------------------------------------------------------------------------- saving and leaving
    def _fail_client(self, failure: WorkbenchError) -> None:
        """The client cannot go on: say why, and let nobody wait for it."""
        log.error("training client %s failed: %s", self.assignment.work_id, type(failure).__name__)
        client = self.queue.client()
        self._settle(client)
        told = (
            failure if client.job_id is not None else ClientFailed(f"its training client failed: {failure}")
        )
        self._answer_all(told)
        self.queue.announce(Status.ERROR, str(failure))
        self._rest_for_good()

    def _settle(self, client: TrainingClient) -> None:
        """Show all that an ended client has spent: its last worker may have been lost before it told."""
        if client.plan is not None:
            budget = RunBudget(Plan(**client.plan), client, self.database, self.fence)
            self.queue.record(client_values={"privacy": budget.view()})

    def _rest_for_good(self) -> None:
        """The client has ended: nothing of it may stay unanswered, and no worker comes after this one."""
        self._answer_all(OperationCancelled("its training client has ended"))
        if self.queue.client().status == Status.TERMINATED:
            forget_automatic(self.database, self.blobs, self.fence)
        self.queue.rest()

    def _answer_all(self, error: WorkbenchError) -> None:
        self.queue.give_back_taken()
        self.queue.take_up()
        while operation := self.queue.begin_next():
            self.queue.fail(operation, error)

    def _dataset(self, client: TrainingClient) -> Dataset | None:
        """The client's dataset. Raises DatasetNotReady for a job whose dataset turned out to be no good."""
        with self.database.read() as session:
            dataset = session.get(Dataset, client.dataset_id) if client.dataset_id else None
        if dataset is not None and client.job_id is not None:
            require_ready(dataset)
        return dataset

    def _job(self, client: TrainingClient) -> JobSpec | None:
        if client.job_id is None:
            return None
        with self.database.read() as session:
            return JobSpec.from_json(session.get_one(Job, client.job_id).spec)


def preload() -> None:
    """Import, in the zygote, what the imports above leave for later."""
    import torch._dynamo  # noqa: F401 - every optimizer imports it when it is made, which takes a second
