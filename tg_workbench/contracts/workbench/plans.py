"""The budget planner at the door: from what a caller knows to what the planner needs, and back."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from tg_workbench.contracts.tg_tinker.schemas import ExactForm, Id
from tg_workbench.contracts.tg_tinker.views import View
from tg_workbench.datasets import Counts, Dataset
from tg_workbench.errors import InvalidRequest


class AskPlan(ExactForm):
    """A run that is being thought of: on a dataset, or on so many examples.

    Give `target_epsilon` or `noise_multiplier`, and `steps` or `epochs`.
    """

    dataset_id: Id | None = None
    size: int | None = Field(default=None, ge=1, le=2**53)
    batch_size: int = Field(default=8, ge=1, le=1_000_000)
    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    epochs: float | None = Field(default=None, gt=0, le=1_000_000)
    target_epsilon: float | None = Field(default=None, gt=0, le=1_000)
    noise_multiplier: float | None = Field(default=None, ge=0.01, le=1_000)
    delta: float | None = Field(default=None, gt=0, lt=1)
    accountant: Literal["pld", "rdp"] = "pld"
    truncated_batch_size: int | None = Field(default=None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _one_of_each(self) -> AskPlan:
        for one, other in (
            ("dataset_id", "size"),
            ("steps", "epochs"),
            ("target_epsilon", "noise_multiplier"),
        ):
            if (getattr(self, one) is None) == (getattr(self, other) is None):
                raise ValueError(f"give {one} or {other}, one of them")
        return self

    def question(self, dataset: Dataset | None, spent: Counts) -> dict[str, Any]:
        """What the planner is asked. Raises InvalidRequest."""
        size = dataset.members if dataset is not None else self.size or 1
        protected = dataset is not None and dataset.privacy == "protected"
        if protected and dataset is not None and self.delta not in (None, dataset.delta):
            raise InvalidRequest(f"delta is fixed per dataset: leave it out or give {dataset.delta:g}")
        delta = dataset.delta if dataset is not None and protected else self.delta or min(1e-5, size**-1.1)
        if delta >= 1 / size:
            raise InvalidRequest(f"delta must lie below 1/N = {1 / size:.2g}")
        cut = self.truncated_batch_size
        if cut is not None and not self.batch_size <= cut <= size:
            raise InvalidRequest("truncated_batch_size lies between batch_size and the size of the dataset")
        return {
            "truncated_batch_size": cut or 0,
            "dataset_size": size if cut else 0,
            "sample_rate": min(1.0, self.batch_size / size),
            "steps": self.steps or max(1, math.ceil((self.epochs or 1) * size / self.batch_size)),
            "delta": delta,
            "target_epsilon": self.target_epsilon,
            "noise_multiplier": self.noise_multiplier,
            "accountant": self.accountant,
            "spent": [[list(kind), count] for kind, count in spent.items()],
            "cap": dataset.epsilon_cap if dataset is not None and protected else None,
        }


class PlanCurve(View):
    """How ε grows: two columns."""

    steps: list[int]
    epsilon: list[float | None]


class PlanView(View):
    """What a run would cost. Nothing was spent by asking."""

    noise_multiplier: float
    sample_rate: float
    steps: int
    delta: float
    accountant: str
    unit: str = "example"
    relation: str = "add_or_remove_one"
    mode: str = "sampled"
    epsilon: float | None
    """Of the run alone; null: no bound."""
    total_epsilon: float | None
    """With what was spent on the same people before."""
    epsilon_cap: float | None
    fits: bool
    """Whether the cap allows the whole run."""
    steps_left: int | None
    """How many such steps the cap allows from now; null without a cap."""
    curve: PlanCurve

    @classmethod
    def of(cls, answer: dict[str, Any], cap: float | None, unit: str) -> PlanView:
        """The planner's answer."""
        left = answer["steps_left"]
        curve = answer["curve"]
        return cls.model_validate(
            {
                **answer,
                "epsilon": _bound(answer["epsilon"]),
                "total_epsilon": _bound(answer["total_epsilon"]),
                "epsilon_cap": cap,
                "unit": unit,
                "fits": left is None or answer["steps"] <= left,
                "curve": {"steps": curve["steps"], "epsilon": list(map(_bound, curve["epsilon"]))},
            }
        )


def _bound(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None
