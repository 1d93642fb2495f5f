"""Audit: the operation that measures, from the outside, how much a client's training reveals at least.

`mechanism`: gradient canaries through the client's own privacy; touches none of its rows. `canaries`: how
well the model tells the made-up examples it learned from those it did not. What they find is a lower bound,
held against the ε of just what was audited. Nothing about the client changes, and nothing is charged.

Pitfalls: a bound below ε proves nothing about ε; a bound above it proves that something is broken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tg_workbench import privacy
from tg_workbench.engine.gradient_canaries import learn_canaries
from tg_workbench.errors import InvalidRequest, OperationCancelled, Refused
from tg_workbench.privacy.auditing import auc, one_run_epsilon
from tg_workbench.training.operating import Operator
from tg_workbench.training.plan import Plan
from tg_workbench.training.rows import request_of
from tg_workbench.training.tables import Operation

USUAL_CANARIES = 5000
MOST_STEPS = 5000
LONGEST_SECONDS = 60.0
"""Gradient canaries take no more steps, and no more time; the answer says how many it were."""


class Audit:
    """One `audit` operation in a worker. `control` is asked now and then: go on, hold, stop or leave."""

    def __init__(self, operator: Operator, operation: Operation, control: Callable[[], str]) -> None:
        self.operator = operator
        self.control = control
        self.request = request_of(operation)
        self.confidence: float = self.request.get("confidence", 0.95)

    def go(self) -> dict[str, Any]:
        """What was found.

        Raises Refused while a gradient waits, InvalidRequest for what this client cannot be audited by,
        OperationCancelled when it was stopped, Interrupted when another worker has to begin it anew.
        """
        if self.operator.trainer.pending:
            raise Refused("a gradient waits for its step: call optim_step before audit")
        method: Callable[[], dict[str, Any]] = getattr(self, f"_{self.request['method']}")
        return {"method": self.request["method"], "confidence": self.confidence, **method()}

    # -------------------------------------------------------------------------------- the methods
    def _mechanism(self) -> dict[str, Any]:
        """Gradient canaries: the client's sampler, clipping, noise and divisor, on made-up examples."""
        plan, spec = self.operator.plan, self.operator.trainer.spec
        if plan is None or spec.privacy is None or spec.expected_batch_size is None:
            raise InvalidRequest(
                "this client trains without differential privacy: there is no mechanism to audit. "
                "Audit its model by canaries instead"
            )
        wanted = self._steps()
        seen = learn_canaries(
            spec.privacy,
            canaries=self.request.get("canaries", USUAL_CANARIES),
            sample_rate=plan.sample_rate,
            steps=min(wanted, MOST_STEPS),
            expected_batch_size=spec.expected_batch_size,
            longest_seconds=LONGEST_SECONDS,
            should_stop=self._should_stop,
        )
        bound = one_run_epsilon(seen.scores, seen.present, delta=plan.delta, confidence=self.confidence)
        fewer = f"{seen.steps} of {wanted} steps were audited, and ε is that of those; " * (
            seen.steps < wanted
        )
        return {
            **_found(bound.epsilon, _epsilon(plan, seen.steps), plan.delta),
            "canaries": len(seen.scores),
            "guesses": bound.guesses,
            "correct": bound.correct,
            "steps": seen.steps,
            "covered_by_epsilon": True,
            "note": f"{fewer}made-up examples went through this client's sampler, clipping and noise, and "
            "an attacker saw every step; no row of yours took part",
        }

    def _canaries(self) -> dict[str, Any]:
        """Black-box canaries: the loss of each under the model as others see it, which costs nothing."""
        canaries = self.operator.canaries()
        if canaries is None or self.operator.client.dataset_id is None:
            raise InvalidRequest(
                "this client was created without audit_canaries: they must be there while it learns"
            )
        losses = self.operator.trainer.each_loss(
            canaries.rows.take(slice(None)), should_stop=self._should_stop
        )
        dataset, _ = self.operator.dataset_rows(self.operator.client.dataset_id)
        plan, budget = self.operator.plan, self.operator.budget
        delta = dataset.delta if plan is None else plan.delta
        scores = -losses
        bound = one_run_epsilon(scores, canaries.present, delta=delta, confidence=self.confidence)
        return {
            **_found(bound.epsilon, None if budget is None else budget.spent, delta),
            "canaries": len(scores),
            "guesses": bound.guesses,
            "correct": bound.correct,
            "steps": self.operator.step,
            "auc": auc(scores, canaries.present),
            "covered_by_epsilon": True,
            "note": "an attacker who sees the losses of this one model guessed which made-up examples it "
            "learned; every further look at it is a test of its own",
        }

    # -------------------------------------------------------------------------------- what they share
    def _steps(self) -> int:
        """How many steps to audit: those asked for, else those taken, else those planned."""
        plan = self.operator.plan
        planned = plan.plan_steps if plan is not None else self.operator.client.config.get("max_steps")
        steps = self.request.get("steps") or self.operator.step or planned
        if not steps:
            raise InvalidRequest("nothing was trained or planned yet: say how many 'steps' to audit")
        return int(steps)

    def _should_stop(self) -> bool:
        """Whether to break off and let the next worker begin anew. Raises OperationCancelled."""
        order = self.control()
        while order == "hold":
            order = self.control()
        if order == "stop":
            raise OperationCancelled("the audit was stopped")
        return order == "leave"


def _epsilon(plan: Plan, steps: int) -> float:
    """What so many steps of the plan are charged."""
    return privacy.epsilon(
        noise_multiplier=plan.noise_multiplier,
        sample_rate=plan.sample_rate,
        steps=steps,
        delta=plan.delta,
        accountant="rdp" if plan.accountant == "rdp" else "pld",
    )


def _found(lower_bound: float, epsilon: float | None, delta: float) -> dict[str, Any]:
    """Both numbers and what lies between; ε and the gap are None without a guarantee."""
    gap = None if epsilon is None else epsilon - lower_bound
    return {"epsilon_lower_bound": lower_bound, "epsilon": epsilon, "delta": delta, "gap": gap}
