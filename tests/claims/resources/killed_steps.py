"""Takes a private step again and again, and is killed at every line of it in turn.

Prints one JSON object per try: at which line it was killed (null: it lived), whether the charge is in the
ledger, whether noise was drawn, whether the weights were changed. Usage: `killed_steps.py FOLDER`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from sqlmodel import Session, select

from tg_workbench.datasets import LedgerEvent
from tg_workbench.engine import trainer as engine
from tg_workbench.engine.specs import Architecture, OptimizerSpec, PrivacySpec, TrainerSpec
from tg_workbench.execution import Fence, Work
from tg_workbench.privacy.randomness import SecureRandom
from tg_workbench.storage import Blobs, Database
from tg_workbench.training.operating import Operator
from tg_workbench.training.plan import Plan
from tg_workbench.training.queue import WorkQueue
from tg_workbench.training.tables import Operation, TrainingClient
from tg_workbench.training.verbs import Verbs
from tg_workbench.training.worker import preload

FILES = (
    "training/operating.py",
    "training/points.py",
    "training/budget.py",
    "datasets/ledger.py",
    "engine/trainer.py",
    "engine/gradients.py",
    "privacy/noise.py",
)
"""Where a line is one to be killed at. Below them are libraries, and a line of theirs is one of ours."""
PLAN = Plan(
    mode="client_batches",
    noise_multiplier=2.0,
    sample_rate=1.0,
    max_grad_norm=1.0,
    delta=1e-5,
    target_epsilon=None,
    plan_steps=None,
    accountant="rdp",
    dataset_id=None,
    dataset_epsilon_cap=None,
    note="",
)
ROWS = {"features": [[1.0, 2.0], [3.0, -1.0]], "targets": [0, 1]}


def operator_on(folder: Path) -> Operator:
    database = Database(f"sqlite:///{folder}/here.db")
    with database.read() as session:
        client = session.get_one(TrainingClient, "tc-1")
    spec = TrainerSpec(
        model_ref="mlp",
        architecture=Architecture((2,), 2, (4,)),
        lora=None,
        optimizer=OptimizerSpec("sgd"),
        loss=None,
        privacy=PrivacySpec(PLAN.noise_multiplier, PLAN.max_grad_norm),
        expected_batch_size=2.0,
        cache_folder=folder,
    )
    fence = Fence("tc-1", 0)
    return Operator(
        client,
        engine.Trainer(spec),
        PLAN,
        WorkQueue(database, folder, fence),
        database,
        Blobs(folder / "blobs"),
        folder,
        fence,
        lambda: False,
    )


def asked(future_id: str, kind: str, payload: bytes) -> Operation:
    return Operation(
        id=future_id,
        client_id="tc-1",
        owner_id="me",
        seq=1,
        kind=kind,
        fingerprint="",
        content_type="application/json",
        payload=payload,
    )


def step(folder: Path, number: int, report: int) -> None:
    """One step, killed at the `number`-th line it comes to; tells `report` when noise is drawn and used."""
    operator = operator_on(folder)
    rows = json.dumps({"batch": ROWS}).encode()
    Verbs(operator).forward_backward(asked("fut-0", "forward_backward", rows))
    operation = asked(f"fut-{number}", "optim_step", b"{}")
    lines: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
            if len(lines) == number:
                os.write(report, f"at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    drawing = SecureRandom.bytes

    def telling(self: SecureRandom, count: int) -> bytearray:
        os.write(report, b"drawn\n")
        return drawing(self, count)

    SecureRandom.bytes = telling  # type: ignore[method-assign]
    optimizer_step = operator.trainer._optimizer.step

    def applying(*arguments: Any, **named: Any) -> Any:
        os.write(report, b"applied\n")
        return optimizer_step(*arguments, **named)

    operator.trainer._optimizer.step = applying  # type: ignore[method-assign]
    sys.settrace(trace)
    operator.apply(operation)
    sys.settrace(None)


def main(folder: Path) -> None:
    database = Database(f"sqlite:///{folder}/here.db")
    database.migrate()
    with database.write() as session:
        session.add(Work(id="tc-1", kind="training", last_active=0.0))
        session.add(TrainingClient(id="tc-1", owner_id="me", tenant_id="us", model_ref="mlp", config={}))
    database.close()
    preload()
    number, lived = 0, False
    while not lived:
        number += 1
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                step(folder, number, theirs)
            except BaseException as failure:  # noqa: BLE001 - a forked child must not come back
                os.write(2, f"{failure!r}\n".encode())
                os._exit(1)
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours) as file:
            told = file.read().split("\n")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        lived = status == 0
        with database.read() as session:
            charged = is_charged(session, number)
        database.close()
        at = next((line.removeprefix("at ") for line in told if line.startswith("at ")), None)
        print(  # noqa: T201 - what it is for
            json.dumps({"at": at, "status": status, "charged": charged, "drawn": "drawn" in told,
                        "applied": "applied" in told}), flush=True
        )  # fmt: skip
        if status not in (0, -signal.SIGKILL):
            sys.exit(1)


def is_charged(session: Session, number: int) -> bool:
    query = select(LedgerEvent.id).where(LedgerEvent.operation_id == f"fut-{number}")
    return session.exec(query).first() is not None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
