"""From what a client was asked to be to what its trainer is made from."""

from __future__ import annotations

from tg_workbench.datasets import Dataset
from tg_workbench.engine.specs import PrivacySpec, TrainerSpec
from tg_workbench.settings import Settings
from tg_workbench.training.plan import Plan
from tg_workbench.training.specs import ClientSpec


def trainer_spec(
    spec: ClientSpec,
    plan: Plan | None,
    dataset: Dataset | None,
    settings: Settings,
    *,
    members: int | None = None,
) -> TrainerSpec:
    """The trainer of a client.

    What a private sum is divided by is public: N·q when the server samples (N rows, or units where rows are
    grouped), else what was declared. Without privacy it is the mean over the rows that came. `members`: of
    how many of the dataset it learns, where that is not all.
    """
    expected: float | None = None
    if plan is not None and dataset is not None:
        expected = (members or dataset.members) * plan.sample_rate
    elif plan is not None:
        expected = float(spec.batch_size * spec.gradient_accumulation_steps)
    return TrainerSpec(
        model_ref=spec.model_ref,
        architecture=spec.architecture,
        lora=spec.lora,
        optimizer=spec.optimizer,
        loss=spec.loss,
        privacy=None if plan is None else _privacy_spec(plan),
        expected_batch_size=expected,
        cache_folder=settings.home / "models",
        gradient_checkpointing=spec.gradient_checkpointing,
        precision=spec.precision,
        average_after=spec.optimizer.average_after(plan.plan_steps if plan is not None else spec.max_steps),
    )


def _privacy_spec(plan: Plan) -> PrivacySpec:
    return PrivacySpec(
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.max_grad_norm,
        hardened_noise=plan.hardened_noise,
        noisy_loss_bound=plan.noisy_loss_bound,
        noisy_loss_share=plan.noisy_loss_share,
        engine=plan.engine,
        unit=plan.unit,  # type: ignore[arg-type]  # stored as text, checked there
    )
