"""Audit: the operation that measures, from the outside, how much a client's training reveals at least.

`mechanism`: gradient canaries through the client's own privacy; touches none of its rows. `canaries`: how
well the model tells the made-up examples it learned from those it did not. `lira`: how well twins of the
client tell real rows apart. What they find is a lower bound, held against the ε of just what was audited.
Nothing about the client changes, and nothing is charged.

What `lira` finds is a function of private rows that no ε covers. It is an operation's result, which answers
the dataset's owner, and never part of an event, a log or the client's view.

Pitfalls: a bound below ε proves nothing about ε; a bound above it proves that something is broken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tg_workbench import privacy
from tg_workbench.engine.gradient_canaries import learn_canaries
from tg_workbench.errors import InvalidRequest, OperationCancelled, Refused
from tg_workbench.privacy.auditing import (
    auc,
    independent_epsilon,
    lira_scores,
    logit_confidence,
    one_run_epsilon,
    tpr_at_fpr,
    twins_epsilon,
)
from tg_workbench.training.operating import Operator
from tg_workbench.training.plan import Plan
from tg_workbench.training.rows import request_of
from tg_workbench.training.tables import Operation
from tg_workbench.training.twins import SeenRows, Twins

USUAL_CANARIES = 5000
USUAL_TWINS = 16
MOST_STEPS = 5000
EVERY_LOOK = "Every further audit is a test of its own: the best of several proves less than it says"
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
            replace(spec.privacy, unit="example"),  # every canary is one of its own
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
            "note": f"{fewer}made-up examples went through this client's sampler, clipping and noise (one "
            "layer, float32, no draw cut), and an attacker saw every step; no row of yours took part. "
            + EVERY_LOOK,
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
            f"learned. {EVERY_LOOK}",
        }

    def _lira(self) -> dict[str, Any]:
        """Likelihood ratios of real rows: what it finds is a function of them that no ε covers."""
        if self.operator.client.dataset_id is None:
            raise InvalidRequest("lira trains twins on a dataset: this client was created without one")
        dataset, rows = self.operator.dataset_rows(self.operator.client.dataset_id)
        if rows.rows_of is not None:
            raise InvalidRequest(
                "lira tells single rows apart, and the rows of this dataset are of units: audit the mechanism"
            )
        plan, steps = self.operator.plan, self._steps()
        batch_size: int = self.operator.client.config["batch_size"]
        rate = plan.sample_rate if plan is not None else min(1.0, batch_size / rows.size)
        twins = Twins(self.operator.trainer, rows, rate, steps, self.request.get("twins", USUAL_TWINS))
        twins.check()
        seen = twins.learn(self._should_stop)
        delta = dataset.delta if plan is None else plan.delta
        found = _found_by_lira(seen, delta, self.confidence)
        return {
            **found,
            **_found(found["epsilon_lower_bound"], None if plan is None else _epsilon(plan, steps), delta),
            "twins": twins.count,
            "steps": steps,
            "covered_by_epsilon": False,
            "note": "twins of this client learned random halves of your rows; do not publish what they show. "
            f"What is proved of a twin holds for the way of training, not for this one model. {EVERY_LOOK}",
        }

    # -------------------------------------------------------------------------------- what they share
    def _steps(self) -> int:
        """How many steps to audit: those asked for, else those taken, else those planned."""
        plan = self.operator.plan
        planned = plan.horizon if plan is not None else self.operator.client.config.get("max_steps")
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


def _found_by_lira(seen: SeenRows, delta: float, confidence: float) -> dict[str, Any]:
    """Every twin judged by the others: the proved bound, and the rates that the literature reports."""
    scores = lira_scores(logit_confidence(seen.losses), seen.present)
    bound = twins_epsilon(scores, seen.present, delta=delta, confidence=confidence)
    flat, present = scores.ravel(), seen.present.ravel()
    return {
        "epsilon_lower_bound": bound.epsilon,
        "rows": scores.shape[1],
        "guesses": bound.guesses,
        "correct": bound.correct,
        "auc": auc(flat, present),
        "tpr_at_fpr_0_1_percent": tpr_at_fpr(flat, present, 0.001),
        "tpr_at_fpr_1_percent": tpr_at_fpr(flat, present, 0.01),
        "epsilon_if_rows_were_independent": independent_epsilon(
            scores, seen.present, delta=delta, confidence=confidence
        ),
    }


def _found(lower_bound: float, epsilon: float | None, delta: float) -> dict[str, Any]:
    """Both numbers and what lies between; ε and the gap are None without a guarantee."""
    gap = None if epsilon is None else epsilon - lower_bound
    return {"epsilon_lower_bound": lower_bound, "epsilon": epsilon, "delta": delta, "gap": gap}
