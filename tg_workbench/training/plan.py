"""The privacy plan of a training client: decided once, from what was asked and what the dataset demands.

Two modes, never mixed: `sampled` (the server draws Poisson batches from a registered dataset, so sampling
amplifies) and `client_batches` (the caller chooses the rows, so every step counts in full: for everybody, or
where rows come with ids for those who are in it).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from tg_workbench import privacy
from tg_workbench.datasets import Dataset, Kind
from tg_workbench.engine.specs import BOOK_KEEPING
from tg_workbench.errors import InvalidRequest
from tg_workbench.training.specs import ClientSpec, DPSpec

DEFAULT_TARGET_EPSILON = 3.0
DEFAULT_PASSES = 10
DEFAULT_DELTA = 1e-5


@dataclass(frozen=True, slots=True)
class Plan:
    """What every step of the client will cost and where it must stop.

    `dataset_id` None: the caller's rows.
    """

    mode: str
    noise_multiplier: float
    sample_rate: float
    max_grad_norm: float
    delta: float
    target_epsilon: float | None
    plan_steps: int | None
    accountant: str
    dataset_id: str | None
    dataset_epsilon_cap: float | None
    note: str
    population: str | None = None
    hardened_noise: bool = False
    noisy_loss_bound: float | None = None
    noisy_loss_share: float = 0.05
    engine: str = BOOK_KEEPING
    unit: str = "example"
    """Whose gradient is clipped as one, and whom ε is about: example, record or unit."""
    unit_name: str = "example"
    """What a unit is called."""
    max_participations: int | None = None
    truncated_batch_size: int = 0
    dataset_size: int = 0
    """How many are drawn from; only where large draws are cut."""

    @property
    def kind(self) -> Kind:
        """What every step of it is to the accountant."""
        return Kind(self.noise_multiplier, self.sample_rate, self.truncated_batch_size, self.dataset_size)

    @property
    def counts_participants(self) -> bool:
        """Whether it is known who is in which step, so that each step counts for them alone."""
        return self.mode == "client_batches" and self.unit != "example"

    @property
    def horizon(self) -> int | None:
        """How many steps of `kind` whoever takes part most will have been in at the end, as declared."""
        return self.max_participations if self.counts_participants else self.plan_steps

    def as_json(self) -> dict[str, Any]:
        """For the database."""
        return asdict(self)


def choose_plan(
    spec: ClientSpec,
    dataset: Dataset | None,
    *,
    members: int | None = None,
    go_on: Callable[[], None] | None = None,
) -> Plan | None:
    """The plan for a client, or None for no guarantee: public rows, or a caller's rows without dp_config.

    `members`: of how many of the dataset it learns, where that is not all. `go_on` breaks
    off, by raising, the search for the noise. Raises InvalidRequest when none reaches the target.
    """
    drawn_from = 0 if dataset is None else (members or dataset.members)
    protected = dataset is not None and dataset.privacy == "protected"
    if not protected and (spec.dp is None or not spec.dp.enabled):
        return None
    cap = dataset.epsilon_cap if protected and dataset is not None else None
    dp = spec.dp or DPSpec(target_epsilon=min(DEFAULT_TARGET_EPSILON, cap or math.inf))
    accountant = "rdp" if dp.accountant_type in ("rdp", "moments") else "pld"
    steps = spec.max_steps or (_default_steps(spec, drawn_from) if dataset is not None else None)
    rate = min(1.0, spec.batch_size / drawn_from) if dataset is not None else 1.0
    delta = dataset.delta if dataset is not None else DEFAULT_DELTA
    if not protected and dp.target_delta is not None:  # a protected dataset has one δ, so that runs compose
        delta = dp.target_delta
    grouped = dataset is not None and dataset.units is not None
    cut = dp.truncated_batch_size if dataset is not None and rate < 1.0 else None
    plan = Plan(
        mode="sampled" if dataset is not None else "client_batches",
        noise_multiplier=dp.noise_multiplier or 0.0,
        sample_rate=rate,
        max_grad_norm=dp.max_grad_norm,
        delta=delta,
        target_epsilon=dp.target_epsilon,
        plan_steps=steps,
        accountant=accountant,
        dataset_id=dataset.id if dataset is not None else None,
        dataset_epsilon_cap=cap,
        note=_note(spec, dataset, replace(dp, truncated_batch_size=cut), steps),
        population=dataset.population if dataset is not None else None,
        hardened_noise=dp.hardened_noise,
        noisy_loss_bound=dp.noisy_loss_bound,
        noisy_loss_share=dp.noisy_loss_share,
        engine=dp.engine,
        unit="unit" if grouped else (dp.unit or "example"),
        unit_name=dataset.unit if dataset is not None else (dp.unit or "example"),
        max_participations=dp.max_participations if dp.counts_participants else None,
        truncated_batch_size=cut or 0,
        dataset_size=drawn_from if cut else 0,
    )
    return plan if dp.noise_multiplier is not None else replace(plan, noise_multiplier=_noise(plan, go_on))


def _noise(plan: Plan, go_on: Callable[[], None] | None) -> float:
    """The least noise that keeps the plan's target."""
    if plan.target_epsilon is None or plan.horizon is None:
        length = "max_participations" if plan.counts_participants else "max_steps"
        raise InvalidRequest(
            f"dp_config needs a noise_multiplier, or a target_epsilon together with {length}"
        )
    return privacy.noise_multiplier(
        target_epsilon=plan.target_epsilon,
        delta=plan.delta,
        sample_rate=plan.sample_rate,
        steps=plan.horizon,
        accountant="rdp" if plan.accountant == "rdp" else "pld",
        truncated_batch_size=plan.truncated_batch_size,
        dataset_size=plan.dataset_size,
        go_on=go_on,
    )


def _default_steps(spec: ClientSpec, members: int) -> int:
    return max(1, math.ceil(DEFAULT_PASSES * members / spec.batch_size))


def _note(spec: ClientSpec, dataset: Dataset | None, dp: DPSpec, steps: int | None) -> str:
    if dataset is None and dp.counts_participants:
        return (
            f"the caller chooses the rows: ε is that of the {dp.unit} that was in most steps (no "
            "amplification by sampling), if leaving one out leaves the batches of the others as they were"
        )
    if dataset is None:
        return "the caller chooses the rows: every step counts in full (no amplification by sampling)"
    chosen = "" if spec.dp is not None else f"default plan: ε = {dp.target_epsilon:g} over {steps} steps; "
    cut = f", cut to {dp.truncated_batch_size}" if dp.truncated_batch_size else ""
    return f"{chosen}batches are drawn by the server (Poisson sampling{cut})"
