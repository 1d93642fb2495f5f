"""From what a client was asked to be to what the engine builds."""

from __future__ import annotations

from tg_workbench.datasets import Dataset
from tg_workbench.engine import trainer as engine
from tg_workbench.settings import Settings
from tg_workbench.training.plan import Plan
from tg_workbench.training.specs import ClientSpec


def trainer_spec(
    spec: ClientSpec, plan: Plan | None, dataset: Dataset | None, settings: Settings
) -> engine.TrainerSpec:
    """The engine's words for the same client.

    What a private sum is divided by is public: N·q when the server samples, else what was declared. Without
    privacy it is the mean over the rows that came.
    """
    expected: float | None = None
    if plan is not None and dataset is not None:
        expected = dataset.size * plan.sample_rate
    elif plan is not None:
        expected = float(spec.batch_size * spec.gradient_accumulation_steps)
    return engine.TrainerSpec(
        model_ref=spec.model_ref,
        architecture=None
        if spec.architecture is None
        else engine.Architecture(
            input_shape=spec.architecture.input_shape,
            output_size=spec.architecture.output_size,
            hidden_sizes=spec.architecture.hidden_sizes,
        ),
        lora=None
        if spec.lora is None
        else engine.LoraSpec(
            rank=spec.lora.rank,
            alpha=spec.lora.alpha,
            dropout=spec.lora.dropout,
            target_modules=spec.lora.target_modules,
            bias=spec.lora.bias,
        ),
        optimizer=engine.OptimizerSpec(
            name=spec.optimizer.name,
            learning_rate=spec.optimizer.learning_rate,
            weight_decay=spec.optimizer.weight_decay,
            betas=spec.optimizer.betas,
            eps=spec.optimizer.eps,
        ),
        loss=spec.loss,
        privacy=None
        if plan is None
        else engine.PrivacySpec(noise_multiplier=plan.noise_multiplier, max_grad_norm=plan.max_grad_norm),
        expected_batch_size=expected,
        cache_folder=settings.home / "models",
    )
