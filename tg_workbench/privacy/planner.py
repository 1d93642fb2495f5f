"""The planner: what a run would cost, before anything is spent on it.

Run as `python -m tg_workbench.privacy.planner` it answers one question: JSON in, JSON out. The API asks it in
a process of its own, because the arithmetic needs NumPy and may take seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tg_workbench.errors import InvalidRequest, WorkbenchError
from tg_workbench.privacy import accounting
from tg_workbench.privacy.accounting import Accountant, Odometer
from tg_workbench.privacy.steps import GaussianStep
from tg_workbench.privacy.tree_plans import TreePlan

POINTS = 24
BEYOND = 1.5
"""The curve goes on past the plan's end, to this many times its steps."""


@dataclass(frozen=True, slots=True)
class Question:
    """A run that is being thought of. Give `target_epsilon` (the noise is sought) or `noise_multiplier`."""

    sample_rate: float
    steps: int
    delta: float
    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    accountant: Accountant = "pld"
    spent: tuple[tuple[GaussianStep, int], ...] = ()
    """What the same people have spent: how often each kind of step was taken."""
    cap: float | None = None
    truncated_batch_size: int = 0
    """Larger draws are cut to so many records; 0: none is."""
    dataset_size: int = 0
    """How many records (or units) are drawn from; needed for a `truncated_batch_size`."""
    tree: TreePlan | None = None
    """Noise in trees: a step is then a whole tree, and `noise_multiplier` that of a node."""

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Question:
        """The question as it is sent. Raises InvalidRequest."""
        spent = tuple((GaussianStep(*kind), int(count)) for kind, count in told.get("spent", ()))
        tree = TreePlan(**told["tree"]) if told.get("tree") else None
        return cls(**{**told, "spent": spent, "tree": tree})

    @property
    def step_noise(self) -> float | None:
        """What one step is a release of."""
        if self.tree is None or self.noise_multiplier is None:
            return self.noise_multiplier
        return self.tree.as_one_step(self.noise_multiplier).noise_multiplier


@dataclass(frozen=True, slots=True)
class Answer:
    """What it would cost. `steps_left` is how many such steps `cap` allows from now; None without a cap."""

    noise_multiplier: float
    sample_rate: float
    steps: int
    delta: float
    accountant: str
    epsilon: float
    """Of this run alone."""
    total_epsilon: float
    """Of this run together with what was spent before."""
    steps_left: int | None
    curve: dict[str, list[float]]
    """`steps` and `epsilon` of this run alone, from its first step to half as many again as planned."""


def answer(question: Question) -> Answer:
    """Raises InvalidRequest for what nobody can plan."""
    if (question.target_epsilon is None) == (question.noise_multiplier is None):
        raise InvalidRequest("give a target_epsilon or a noise_multiplier, one of them")
    if not 1 <= question.steps <= accounting.MOST_STEPS:
        raise InvalidRequest(f"a plan has from 1 to {accounting.MOST_STEPS} steps")
    if question.tree is not None and question.sample_rate != 1.0:
        raise InvalidRequest("noise in trees is for devices that nobody drew: a sample_rate of 1")
    noise = question.step_noise or _noise(question)
    step = GaussianStep(noise, question.sample_rate, question.truncated_batch_size, question.dataset_size)
    odometer = Odometer(question.delta, question.accountant, plan_steps=question.steps)
    before = dict(question.spent)
    together = {**before, step: before.get(step, 0) + question.steps}
    left = None if question.cap is None else odometer.steps_left(before, step, question.cap)
    counts = sorted({max(1, round(question.steps * BEYOND * part / POINTS)) for part in range(1, POINTS + 1)})
    return Answer(
        noise_multiplier=noise if question.tree is None else question.tree.node_noise(noise),
        sample_rate=question.sample_rate,
        steps=question.steps,
        delta=question.delta,
        accountant=question.accountant,
        epsilon=odometer.epsilon({step: question.steps}),
        total_epsilon=odometer.epsilon(together),
        steps_left=left,
        curve={
            "steps": [float(count) for count in counts],
            "epsilon": [odometer.epsilon({step: count}) for count in counts],
        },
    )


def _noise(question: Question) -> float:
    assert question.target_epsilon is not None  # noqa: S101  (one of the two was given)
    return accounting.noise_multiplier(
        target_epsilon=question.target_epsilon,
        delta=question.delta,
        sample_rate=question.sample_rate,
        steps=question.steps,
        accountant=question.accountant,
        truncated_batch_size=question.truncated_batch_size,
        dataset_size=question.dataset_size,
    )


def main() -> None:
    """Answer the question on standard input, or say in `error` why it has no answer."""
    told: dict[str, Any] = json.load(sys.stdin)
    try:
        said = asdict(answer(Question.from_json(told)))
    except WorkbenchError as refusal:
        said = {"error": str(refusal)}
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
