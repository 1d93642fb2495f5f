"""A run's budget: asks the ledger before every step, and writes the charge before any noise is drawn.

Order within a step: reserve and charge (one transaction) → draw noise → apply. A crash in between leaves the
charge standing, never a release without one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tg_workbench.datasets import Charge, Ledger
from tg_workbench.datasets.ledger import KEY_BYTES, Kind, Lineage
from tg_workbench.errors import BudgetExhausted
from tg_workbench.execution import Fence
from tg_workbench.privacy import GaussianStep, Odometer
from tg_workbench.privacy.participation import Participation
from tg_workbench.storage import Database
from tg_workbench.training.plan import Plan
from tg_workbench.training.tables import Operation, TrainingClient

SLACK = 1e-9  # float noise in a comparison of two readings of the same accountant
RELATION = "add_or_remove_one"


@dataclass(frozen=True, slots=True)
class Charged:
    """What a step has cost: ε after it, and by how much it rose."""

    total_epsilon: float
    step_epsilon: float


class RunBudget:
    """The budget of one training client with a privacy plan."""

    def __init__(self, plan: Plan, client: TrainingClient, database: Database, fence: Fence) -> None:
        self.plan = plan
        self.client = client
        self.database = database
        self.fence = fence
        self.kind = plan.kind
        accountant = "rdp" if plan.accountant == "rdp" else "pld"
        self.odometer = Odometer(plan.delta, accountant, plan_steps=plan.horizon)  # type: ignore[arg-type]
        self.dataset_odometer = Odometer(plan.delta, accountant, plan_steps=plan.plan_steps)  # type: ignore[arg-type]
        self.inherited: dict[Kind, int] = {}
        self.own: dict[Kind, int] = {}
        self.of_dataset: dict[Kind, int] = {}
        self.participation = Participation()
        self.inherited_worst: dict[GaussianStep, int] = {}
        self.spent = 0.0
        self.dataset_spent = 0.0
        self._ahead = threading.Event()
        self.reload(client.lineage)

    def reload(self, lineage: Lineage) -> None:
        """Read the ledger again: at the start, and when a checkpoint has brought another lineage."""
        with self.database.read() as session:
            ledger = Ledger(session)
            self.inherited = ledger.of_lineage(lineage, without=self.client.id)
            self.own = ledger.of_subject(self.client.id)
            self.of_dataset = ledger.of_subject(self.plan.population) if self.plan.population else {}
            self.participation = Participation()
            for client_id, newest in lineage.items():
                if client_id != self.client.id:
                    _count(self.participation, ledger.participations(client_id, newest))
            self.inherited_worst = self.participation.worst()
            _count(self.participation, ledger.participations(self.client.id))
        self.spent = self._read_run()
        self.dataset_spent = self._read(self.dataset_odometer, self.of_dataset)
        self.read_ahead()

    def charge(
        self, operation: Operation, *, ordinal: int, step: int, participants: frozenset[bytes] = frozenset()
    ) -> Charged:
        """Admit the next step and write it into the ledger. `participants`: who is in it, if that is known.

        Raises BudgetExhausted (nothing written), Fenced.
        """
        if self.plan.counts_participants:
            return self._charge_participants(operation, ordinal, step, participants)
        while True:
            after = self._admit(
                self.odometer, self._steps_so_far(), self.spent, self.plan.target_epsilon, "run"
            )
            dataset_after = self._admit_on_dataset()
            if self._write(self._charge(operation, ordinal, step, after), dataset_after):
                break
            self.dataset_spent = self._read(self.dataset_odometer, self.of_dataset)  # by others meanwhile
        charged = Charged(after, max(0.0, after - self.spent))
        self.own[self.kind] = self.own.get(self.kind, 0) + 1
        self.spent = after
        if dataset_after is not None:
            self.of_dataset[self.kind] = self.of_dataset.get(self.kind, 0) + 1
            self.dataset_spent = dataset_after
        return charged

    def _charge_participants(
        self, operation: Operation, ordinal: int, step: int, participants: frozenset[bytes]
    ) -> Charged:
        after = self._after(participants)
        charge = self._charge(operation, ordinal, step, after)
        charge.participants = b"".join(sorted(participants))
        self._write(charge, None)
        self.participation.add(participants, self.plan.noise_multiplier)
        charged = Charged(after, max(0.0, after - self.spent))
        self.spent = after
        return charged

    def require_room(self, participants: frozenset[bytes]) -> None:
        """Raise BudgetExhausted if a step of these would pass what one of them may spend."""
        self._after(participants)

    def _after(self, participants: frozenset[bytes]) -> float:
        """ε once these have been in one more step. Raises BudgetExhausted."""
        worst = self.participation.worst_after(participants, self.plan.noise_multiplier)
        after = max(self.spent, self.odometer.epsilon(_joined(_steps(self._run_counts()), worst)))
        cap = self._cap()
        if cap is not None and after > cap + SLACK:
            of = f"client's most used {self.plan.unit}"
            raise BudgetExhausted(spent=self.spent, target=cap, next_epsilon=after, of=of)
        return after

    def _cap(self) -> float | None:
        """Up to where the run's own ε may go: its target; where participants are counted, its plan's end."""
        target = self.plan.target_epsilon
        if not self.plan.counts_participants or self.plan.horizon is None:
            return target
        planned = self._planned(self.plan.horizon)
        return planned if target is None else min(target, planned)

    def _planned(self, horizon: int) -> float:
        """ε at the end of the plan: what was inherited, and `horizon` steps of its own."""
        steps = _joined(_steps(self._more(self.inherited, horizon)), self.inherited_worst)
        return self.odometer.epsilon(steps)

    @property
    def steps_taken(self) -> int:
        """How many charged steps lie on the model's lineage, lost ones included."""
        return sum(self._run_counts().values()) + self.participation.steps

    def steps_left(self) -> int | None:
        """How many more steps both caps allow; None when there is no cap.

        Where participants are counted: how many for whoever was in most so far.
        """
        left: int | None = None
        own_cap = self._cap()
        if own_cap is not None:
            left = self._left(self.odometer, self._steps_so_far(), own_cap)
        cap = self.plan.dataset_epsilon_cap
        if cap is None:
            return left
        if left is not None and self._read(self.dataset_odometer, self._more(self.of_dataset, left)) <= cap:
            return left  # one reading instead of a search: the dataset's cap is not the nearer one
        of_dataset = self._left(self.dataset_odometer, _steps(self.of_dataset), cap)
        return of_dataset if left is None else min(left, of_dataset)

    def read_ahead(self) -> None:
        """Compute in the background what the coming steps will read, so that they do not wait for it."""
        self._ahead.set()
        self._ahead = threading.Event()
        arguments = (self._ahead, self._run_counts(), self.plan.plan_steps or 0)
        threading.Thread(target=self._read_ahead, args=arguments, daemon=True).start()

    def _read_ahead(self, enough: threading.Event, counts: dict[Kind, int], steps: int) -> None:
        if len(counts) > 1 or self.inherited_worst or self.plan.sample_rate == 1.0:
            return  # mixed steps are read from Rényi costs, those without sampling in closed form: both quick
        odometer = Odometer(self.plan.delta, self.odometer.accountant, plan_steps=self.plan.plan_steps)
        for more in range(1, steps + 1):
            if enough.is_set():
                return
            began = time.monotonic()
            self._read(odometer, self._more(counts, more))
            enough.wait(2 * (time.monotonic() - began))  # leave most of the processor to the training itself

    def _more(self, counts: Mapping[Kind, int], steps: int) -> dict[Kind, int]:
        return {**counts, self.kind: counts.get(self.kind, 0) + steps}

    def view(self) -> dict[str, Any]:
        """The budget as it is shown: everything ε needs to mean something."""
        plan = self.plan
        return {
            "guarantee": "differential_privacy",
            "mode": plan.mode,
            "unit": plan.unit_name,
            "relation": RELATION,
            "accountant": self.odometer.name,
            "target_epsilon": plan.target_epsilon,
            "delta": plan.delta,
            "noise_multiplier": plan.noise_multiplier,
            "max_grad_norm": plan.max_grad_norm,
            "sample_rate": plan.sample_rate,
            "truncated_batch_size": plan.truncated_batch_size or None,
            "max_participations": plan.max_participations,
            "noisy_loss_bound": plan.noisy_loss_bound,
            "spent_epsilon": self.spent,
            "reserved_epsilon": self._reserved(),
            "steps": self.steps_taken,
            "steps_left": self.steps_left(),
            "dataset_id": plan.dataset_id,
            "dataset_spent_epsilon": self.dataset_spent if plan.dataset_id else None,
            "dataset_epsilon_cap": plan.dataset_epsilon_cap,
            "note": plan.note,
        }

    def _reserved(self) -> float:
        """What the declared plan will have cost at its end, not below what is spent already."""
        if self.plan.horizon is None:
            return self.spent
        planned = self._planned(self.plan.horizon)
        if self.plan.target_epsilon is not None:
            planned = min(planned, self.plan.target_epsilon)
        return max(self.spent, planned)

    def _run_counts(self) -> dict[Kind, int]:
        total = dict(self.inherited)
        for kind, count in self.own.items():
            total[kind] = total.get(kind, 0) + count
        return total

    def _steps_so_far(self) -> dict[GaussianStep, int]:
        """What the run's ε composes: the steps that count for everybody, and those of whoever was in most."""
        return _joined(_steps(self._run_counts()), self.participation.worst())

    def _read_run(self) -> float:
        return self.odometer.epsilon(self._steps_so_far())

    def _admit_on_dataset(self) -> float | None:
        if self.plan.dataset_id is None:
            return None
        cap, steps = self.plan.dataset_epsilon_cap, _steps(self.of_dataset)
        return self._admit(self.dataset_odometer, steps, self.dataset_spent, cap, "dataset")

    def _admit(
        self, odometer: Odometer, steps: Mapping[GaussianStep, int], spent: float, cap: float | None, of: str
    ) -> float:
        after = odometer.epsilon(_joined(steps, {GaussianStep(*self.kind): 1}))
        # The live reading rounds up between its grid points; the cap is decided by the exact count.
        if cap is not None and after > cap + SLACK:
            if self._left(odometer, steps, cap) < 1:
                raise BudgetExhausted(spent=spent, target=cap, next_epsilon=after, of=of)
            after = min(after, cap)
        return max(after, spent)

    def _write(self, charge: Charge, dataset_after: float | None) -> bool:
        """Write the event, unless somebody else has used the dataset since we read it.

        It is on the disk before any noise is drawn: a power cut must not forget what was revealed.
        """
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            ledger = Ledger(session)
            if self.plan.population is not None:
                seen, self.of_dataset = self.of_dataset, ledger.of_subject(self.plan.population)
                if seen != self.of_dataset:
                    return False
            ledger.append(charge, self.plan.population, dataset_after)
        return True

    def _charge(self, operation: Operation, ordinal: int, step: int, after: float) -> Charge:
        return Charge(
            dataset_id=self.plan.dataset_id,
            client_id=self.client.id,
            tenant_id=self.client.tenant_id,
            actor=self.client.owner_id,
            operation_id=operation.id,
            attempt=self.fence.epoch,
            ordinal=ordinal,
            mode=self.plan.mode,
            noise_multiplier=self.plan.noise_multiplier,
            sample_rate=self.plan.sample_rate,
            max_grad_norm=self.plan.max_grad_norm,
            truncated_batch_size=self.plan.truncated_batch_size,
            dataset_size=self.plan.dataset_size,
            step=step,
            epsilon_after=after,
        )

    def _left(self, odometer: Odometer, steps: Mapping[GaussianStep, int], cap: float) -> int:
        return odometer.steps_left(steps, GaussianStep(*self.kind), cap)

    @staticmethod
    def _read(odometer: Odometer, counts: Mapping[Kind, int]) -> float:
        return odometer.epsilon(_steps(counts))


def _steps(counts: Mapping[Kind, int]) -> dict[GaussianStep, int]:
    return {GaussianStep(*kind): count for kind, count in counts.items()}


def _joined(one: Mapping[GaussianStep, int], other: Mapping[GaussianStep, int]) -> dict[GaussianStep, int]:
    return {step: one.get(step, 0) + other.get(step, 0) for step in {**one, **other}}


def _count(participation: Participation, events: Iterable[tuple[float, bytes]]) -> None:
    for noise, keys in events:
        participation.add((keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)), noise)


NO_GUARANTEE = {
    "guarantee": "none",
    "mode": None,
    "unit": "example",
    "relation": RELATION,
    "accountant": None,
    "target_epsilon": None,
    "delta": None,
    "noise_multiplier": None,
    "max_grad_norm": None,
    "sample_rate": None,
    "truncated_batch_size": None,
    "max_participations": None,
    "noisy_loss_bound": None,
    "spent_epsilon": None,
    "reserved_epsilon": None,
    "steps": 0,
    "steps_left": None,
    "dataset_id": None,
    "dataset_spent_epsilon": None,
    "dataset_epsilon_cap": None,
    "note": "no guarantee: this client trains without differential privacy",
}
"""The view of a client that trains without differential privacy."""
