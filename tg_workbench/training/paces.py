"""Paces: how long jobs take, learned from those that have ended. Of each tenant by itself, and stored."""

from __future__ import annotations

from sqlmodel import Session

from tg_workbench.datasets import Dataset
from tg_workbench.training.job_specs import JobSpec
from tg_workbench.training.tables import JobPace

START_SECONDS = 1.0
"""What every job takes before its first step, and after its last."""
FIRST_GUESSES = {
    "mlp": 2e-5,
    "linear": 1e-5,
    "logistic": 1e-5,
    "cnn": 2e-4,
    "resnet18": 0.02,
    "resnet50": 0.08,
    "smollm2-135m": 0.5,
}
"""Seconds for each example and epoch on two cores, before a job has ended."""
OTHER_GUESS = 1e-3
WEIGHT_OF_NEWEST = 0.3


class Paces:
    """What was learned of how long jobs take."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def estimate(self, tenant_id: str, spec: JobSpec, dataset: Dataset) -> float | None:
        """How many seconds a job will run; None while nobody knows how large its dataset is."""
        if not dataset.size:
            return None
        known = self.session.get(JobPace, (tenant_id, spec.model_type))
        pace = FIRST_GUESSES.get(spec.model_type, OTHER_GUESS) if known is None else known.seconds
        return START_SECONDS + pace * dataset.size * spec.epochs

    def learn(self, tenant_id: str, model_type: str, seconds: float, seen: float) -> None:
        """A job has taken `seconds` to see examples `seen` times in all."""
        pace = seconds / max(1.0, seen)
        known = self.session.get(JobPace, (tenant_id, model_type))
        if known is None:
            self.session.add(JobPace(tenant_id=tenant_id, model_type=model_type, seconds=pace))
            return
        known.seconds += WEIGHT_OF_NEWEST * (pace - known.seconds)
        known.jobs += 1
        self.session.add(known)
