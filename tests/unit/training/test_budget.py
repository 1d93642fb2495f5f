"""A charge is on the disk before the step it pays for, and nobody who was replaced can write one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import select

from tg_workbench.datasets import LedgerEvent
from tg_workbench.errors import BudgetExhausted
from tg_workbench.execution import Fence, Fenced, Work
from tg_workbench.privacy.curves import gaussian_epsilon
from tg_workbench.storage import Database
from tg_workbench.training.budget import RunBudget
from tg_workbench.training.plan import Plan
from tg_workbench.training.tables import Operation, TrainingClient

OPERATION = Operation(
    id="fut-1", client_id="tc-1", owner_id="me", seq=1, kind="optim_step", fingerprint="", content_type=""
)


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "mode": "client_batches",
        "noise_multiplier": 2.0,
        "sample_rate": 1.0,
        "max_grad_norm": 1.0,
        "delta": 1e-5,
        "target_epsilon": None,
        "plan_steps": None,
        "accountant": "pld",
        "dataset_id": None,
        "dataset_epsilon_cap": None,
        "note": "",
    }
    return Plan(**{**values, **changes})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/here.db")
    opened.migrate()
    with opened.write() as session:
        session.add(Work(id="tc-1", kind="training", last_active=0.0))
        session.add(TrainingClient(id="tc-1", owner_id="me", tenant_id="us", model_ref="mlp", config={}))
    yield opened
    opened.close()


def budget(database: Database, **changes: Any) -> RunBudget:
    with database.read() as session:
        client = session.get_one(TrainingClient, "tc-1")
    return RunBudget(plan(**changes), client, database, Fence("tc-1", 0))


def events(database: Database) -> list[LedgerEvent]:
    with database.read() as session:
        return list(session.exec(select(LedgerEvent)))


def test_a_charge_is_on_the_disk_before_it_returns(database: Database) -> None:
    charging = budget(database)
    said: list[str] = []

    def listen(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(said.append)

    event.listen(database.engine.pool, "checkout", listen)
    charging.charge(OPERATION, ordinal=0, step=1)
    begun = said.index("BEGIN IMMEDIATE")
    assert [line for line in said[:begun] if "synchronous" in line][-1] == "PRAGMA synchronous=FULL"
    written = next(n for n, line in enumerate(said) if "INSERT INTO ledger_events" in line)
    assert begun < written < said.index("COMMIT")


def test_a_replaced_worker_charges_nothing(database: Database) -> None:
    charging = budget(database)
    with database.write() as session:
        session.get_one(Work, "tc-1").epoch = 1
    with pytest.raises(Fenced):
        charging.charge(OPERATION, ordinal=0, step=1)
    assert events(database) == []


def test_the_step_that_would_pass_the_cap_is_refused_and_not_written(database: Database) -> None:
    first = budget(database).charge(OPERATION, ordinal=0, step=1).total_epsilon
    capped = budget(database, target_epsilon=first * 1.01)
    with pytest.raises(BudgetExhausted) as refused:
        capped.charge(OPERATION, ordinal=1, step=2)
    assert refused.value.spent_epsilon == pytest.approx(first)
    assert len(events(database)) == 1


def test_who_took_part_is_in_the_ledger_and_counted_again_by_the_next_worker(database: Database) -> None:
    by_record = {"unit": "record", "noise_multiplier": 5.0}
    first = budget(database, **by_record)
    for ordinal, people in enumerate((b"a" * 8, b"b" * 8, b"a" * 8)):
        first.charge(OPERATION, ordinal=ordinal, step=ordinal + 1, participants=frozenset({people}))
    second = budget(database, **by_record)
    assert second.spent == first.spent
    assert second.spent == pytest.approx(gaussian_epsilon(2**0.5 / 5.0, 1e-5))  # whoever was in two steps
    assert (second.steps_taken, first.steps_taken) == (3, 3)
    everybody = budget(database, noise_multiplier=5.0)
    everybody.charge(OPERATION, ordinal=9, step=4)
    assert everybody.spent == pytest.approx(gaussian_epsilon(3**0.5 / 5.0, 1e-5))


def test_whoever_was_in_most_steps_is_refused_and_others_are_not(database: Database) -> None:
    cap = gaussian_epsilon(1 / 5.0, 1e-5) * 1.001
    charging = budget(database, unit="unit", noise_multiplier=5.0, target_epsilon=cap)
    charging.charge(OPERATION, ordinal=0, step=1, participants=frozenset({b"a" * 8}))
    with pytest.raises(BudgetExhausted, match="most used unit is spent"):
        charging.charge(OPERATION, ordinal=1, step=2, participants=frozenset({b"a" * 8, b"c" * 8}))
    assert len(events(database)) == 1
    charging.charge(OPERATION, ordinal=2, step=2, participants=frozenset({b"b" * 8}))
    assert charging.steps_left() == 0


def test_nobody_is_in_more_steps_than_was_planned(database: Database) -> None:
    charging = budget(database, unit="record", noise_multiplier=5.0, max_participations=2)
    for ordinal in range(2):
        charging.charge(OPERATION, ordinal=ordinal, step=ordinal + 1, participants=frozenset({b"a" * 8}))
    assert charging.steps_left() == 0
    with pytest.raises(BudgetExhausted, match="most used record"):
        charging.require_room(frozenset({b"a" * 8}))
    charging.require_room(frozenset({b"b" * 8}))
