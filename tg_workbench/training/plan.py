"""The privacy plan of a training client: decided once, from what was asked and what the dataset demands.

Two modes, never mixed: `sampled` (the server draws Poisson batches from a registered dataset, so sampling
amplifies) and `client_batches` (the caller chooses the rows, so every step counts in full).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from tg_workbench import privacy
from tg_workbench.datasets import Dataset
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

    def as_json(self) -> dict[str, Any]:
        """For the database."""
        return asdict(self)


def choose_plan(spec: ClientSpec, dataset: Dataset | None) -> Plan | None:
    """The plan for a client, or None for no guarantee: public rows, or a caller's rows without dp_config.

    Raises InvalidRequest when no noise reaches the target.
    """
    protected = dataset is not None and dataset.privacy == "protected"
    if not protected and (spec.dp is None or not spec.dp.enabled):
        return None
    cap = dataset.epsilon_cap if protected and dataset is not None else None
    dp = spec.dp or DPSpec(target_epsilon=min(DEFAULT_TARGET_EPSILON, cap or math.inf))
    accountant = "rdp" if dp.accountant_type in ("rdp", "moments") else "pld"
    steps = spec.max_steps or (_default_steps(spec, dataset) if dataset is not None else None)
    rate = min(1.0, spec.batch_size / dataset.size) if dataset is not None else 1.0
    delta = dataset.delta if dataset is not None else DEFAULT_DELTA
    if not protected and dp.target_delta is not None:  # a protected dataset has one δ, so that runs compose
        delta = dp.target_delta
    return Plan(
        mode="sampled" if dataset is not None else "client_batches",
        noise_multiplier=_noise(dp, rate, steps, delta, accountant),
        sample_rate=rate,
        max_grad_norm=dp.max_grad_norm,
        delta=delta,
        target_epsilon=dp.target_epsilon,
        plan_steps=steps,
        accountant=accountant,
        dataset_id=dataset.id if dataset is not None else None,
        dataset_epsilon_cap=cap,
        note=_note(spec, dataset, dp, steps),
        population=dataset.population if dataset is not None else None,
        hardened_noise=dp.hardened_noise,
        noisy_loss_bound=dp.noisy_loss_bound,
        noisy_loss_share=dp.noisy_loss_share,
        engine=dp.engine,
    )


def _noise(dp: DPSpec, rate: float, steps: int | None, delta: float, accountant: str) -> float:
    if dp.noise_multiplier is not None:
        return dp.noise_multiplier
    if dp.target_epsilon is None or steps is None:
        raise InvalidRequest(
            "dp_config needs a noise_multiplier, or a target_epsilon together with max_steps"
        )
    return privacy.noise_multiplier(
        target_epsilon=dp.target_epsilon,
        delta=delta,
        sample_rate=rate,
        steps=steps,
        accountant="rdp" if accountant == "rdp" else "pld",
    )


def _default_steps(spec: ClientSpec, dataset: Dataset) -> int:
    return max(1, math.ceil(DEFAULT_PASSES * dataset.size / spec.batch_size))


def _note(spec: ClientSpec, dataset: Dataset | None, dp: DPSpec, steps: int | None) -> str:
    if dataset is None:
        return "the caller chooses the rows: every step counts in full (no amplification by sampling)"
    chosen = "" if spec.dp is not None else f"default plan: ε = {dp.target_epsilon:g} over {steps} steps; "
    return f"{chosen}batches are drawn by the server (Poisson sampling)"
