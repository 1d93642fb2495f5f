"""Statistics count what there is, each tenant its own."""

from __future__ import annotations

from typing import Any

from tg_workbench.datasets import Dataset
from tg_workbench.identity import LOCAL_PRINCIPAL, Principal
from tg_workbench.observability.statistics import Statistics, sees_the_machine
from tg_workbench.storage import Database
from tg_workbench.training import OperationRow, TrainingClient

ALICE = Principal("alice", "acme", frozenset({"read"}))


def client(client_id: str, owner: Principal = ALICE, **more: Any) -> TrainingClient:
    return TrainingClient(
        id=client_id, owner_id=owner.id, tenant_id=owner.tenant_id, model_ref="mlp", config={}, **more
    )


def operation(seq: int, kind: str, state: str) -> OperationRow:
    return OperationRow(
        id=f"fut-{seq}",
        client_id="tc-1",
        owner_id="alice",
        seq=seq,
        kind=kind,
        status=state,
        fingerprint="",
        content_type="",
    )


def test_a_tenant_counts_its_own_and_the_operator_everybodys(database: Database) -> None:
    with database.write() as session:
        session.add(client("tc-1", step=5, status="ready"))
        session.add(client("tc-2", LOCAL_PRINCIPAL, step=2, status="error"))
        session.add(operation(1, "train", "pending"))
        session.flush()
        everything, acme, other = (Statistics(session, tenant) for tenant in (None, "acme", "local"))
        assert everything.clients_by_status() == {"ready": 1, "error": 1}
        assert acme.clients_by_status() == {"ready": 1}
        assert (everything.steps(), acme.steps(), Statistics(session, "nobody").steps()) == (7, 5, 0)
        assert acme.operations() == {("train", "pending"): 1}
        assert other.operations() == {}


def test_budgets_of_living_protected_datasets_come_most_used_first(database: Database) -> None:
    def dataset(name: str, spent: float, **more: Any) -> Dataset:
        defaults = {"tenant_id": "acme", "privacy": "protected", "epsilon_cap": 10.0, **more}
        return Dataset(
            id=name, owner_id="alice", name=name, format="rows", size=1, blob="", population=name, delta=1e-5,
            spent_epsilon=spent, **defaults,
        )  # fmt: skip

    with database.write() as session:
        session.add(dataset("half", 5.0))
        session.add(dataset("most", 4.5, epsilon_cap=5.0))
        session.add(dataset("open", 0.0, privacy="public"))
        session.add(dataset("gone", 9.0, deleted_at=1.0))
        session.add(dataset("theirs", 1.0, tenant_id="local"))
        session.flush()
        assert [budget.dataset_id for budget in Statistics(session).budgets()] == ["most", "half", "theirs"]
        assert [budget.used for budget in Statistics(session, "acme").budgets()] == [0.9, 0.5]
        assert len(Statistics(session).budgets(limit=1)) == 1


def test_the_operator_is_whoever_belongs_to_the_workbench_itself() -> None:
    assert sees_the_machine(LOCAL_PRINCIPAL)
    assert not sees_the_machine(ALICE)
