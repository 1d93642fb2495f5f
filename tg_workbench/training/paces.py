"""Paces: how long jobs take, learned from those that have ended. Of each tenant by itself, and stored.

A pace is how many times as long as guessed such jobs have taken: jobs with the same type of model, private or
not, and about as long. So a short one says nothing of a long one where there is another long one.
"""

from __future__ import annotations

import math

from sqlmodel import Session, col, select

from tg_workbench.datasets import Dataset
from tg_workbench.training.job_specs import JobSpec
from tg_workbench.training.tables import JobPace

START_SECONDS = 0.1
"""What every job takes before its first step, and after its last."""
STEP_SECONDS, PRIVATE_STEP_SECONDS = 5e-4, 1e-2
"""What every step takes, however few examples it sees."""
FIRST_GUESSES = {
    "mlp": 1e-6,
    "linear": 1e-6,
    "logistic": 1e-6,
    "cnn": 2e-4,
    "resnet18": 0.02,
    "resnet50": 0.08,
    "smollm2-135m": 0.5,
}
"""Seconds for each example and epoch beside, on two cores, before a job has ended."""
OTHER_GUESS = 1e-3
WEIGHT_OF_NEWEST = 0.5
LENGTHS = range(-16, 33)
"""Each four times the one before, in guessed seconds: 4**-16 to 4**32."""


class Paces:
    """What was learned of how long jobs take."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def estimate(self, tenant_id: str, spec: JobSpec, dataset: Dataset) -> float | None:
        """How many seconds a job will run; None while nobody knows how large its dataset is."""
        if not dataset.size:
            return None
        guess = _guess(spec, dataset, spec.epochs)
        known = self._nearest(tenant_id, spec, dataset, guess)
        return START_SECONDS + guess * (1.0 if known is None else known.seconds)

    def learn(self, tenant_id: str, spec: JobSpec, dataset: Dataset, seconds: float, epochs: float) -> None:
        """A job has taken `seconds` for so many epochs."""
        guess = _guess(spec, dataset, epochs)
        pace, name = max(seconds, 1e-3) / guess, _name(spec, dataset, _length(guess))
        known = self.session.get(JobPace, (tenant_id, name))
        if known is None:
            self.session.add(JobPace(tenant_id=tenant_id, model_type=name, seconds=pace))
            return
        known.seconds *= (pace / known.seconds) ** WEIGHT_OF_NEWEST  # one that had to wait is soon forgotten
        known.jobs += 1
        self.session.add(known)

    def _nearest(self, tenant_id: str, spec: JobSpec, dataset: Dataset, guess: float) -> JobPace | None:
        """The pace of jobs that were about as long, or else of those whose length was next to it."""
        names = {_name(spec, dataset, length): abs(length - _length(guess)) for length in LENGTHS}
        query = select(JobPace).where(JobPace.tenant_id == tenant_id, col(JobPace.model_type).in_(names))
        return min(self.session.exec(query), key=lambda pace: names[pace.model_type], default=None)


def _guess(spec: JobSpec, dataset: Dataset, epochs: float) -> float:
    """How many seconds so many epochs take, as far as one can tell before a job has ended."""
    learned = dataset.size * (1.0 - spec.validation_split)
    steps = epochs * max(1.0, learned / spec.batch_size)
    each = PRIVATE_STEP_SECONDS if _is_private(spec, dataset) else STEP_SECONDS
    return steps * each + epochs * dataset.size * FIRST_GUESSES.get(spec.model_type, OTHER_GUESS)


def _is_private(spec: JobSpec, dataset: Dataset) -> bool:
    return spec.dp is not None or dataset.privacy != "public"


def _length(guess: float) -> int:
    return min(max(math.floor(math.log(guess, 4)), LENGTHS[0]), LENGTHS[-1])


def _name(spec: JobSpec, dataset: Dataset, length: int) -> str:
    privacy = "private" if _is_private(spec, dataset) else "open"
    return f"{spec.model_type}, {privacy}, 4**{length} s"
